-- What is known of the whole store. `shards`: how many it has.
CREATE TABLE IF NOT EXISTS store_state (
    name VARBINARY(64) NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
) ENGINE = InnoDB;
