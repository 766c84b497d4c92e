-- What is known of the whole store. `shards`: how many it has.
CREATE TABLE IF NOT EXISTS store_state (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
