-- What was aggregated: blocks of consecutive messages of one conversation in one month (`store.archive.tables.blocks`).
--
-- conversation: as in `message`; or `sent/` and a sender, for messages to others: private messages are here twice.
-- first_id, last_id: of the block's messages. The page after a cursor is one range of the primary key.
CREATE TABLE IF NOT EXISTS block (
    conversation TEXT NOT NULL,
    last_id INTEGER NOT NULL,
    first_id INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (conversation, last_id)
) STRICT;

-- Months that are aggregated, or about to be. month, edge: the ids they begin and end with.
-- conversation, last_id: the block stored last. They are made in the order of these two, all `sent/…` after all others.
-- messages, blocks, bytes: stored so far, what is stored twice counted twice.
-- aggregated_at: milliseconds; from then on the month is read from its blocks. Null: not yet.
CREATE TABLE IF NOT EXISTS aggregate_month (
    month INTEGER NOT NULL PRIMARY KEY,
    edge INTEGER NOT NULL,
    conversation TEXT NOT NULL DEFAULT '',
    last_id INTEGER NOT NULL DEFAULT 0,
    messages INTEGER NOT NULL DEFAULT 0,
    blocks INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    aggregated_at INTEGER NULL
) STRICT;
