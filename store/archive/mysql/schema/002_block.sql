-- What was aggregated: blocks of consecutive messages of one conversation in one month (`store.archive.tables.blocks`).
--
-- conversation: as in `message`; or `sent/` and a sender, for messages to others: private messages are here twice.
-- first_id, last_id: of the block's messages. The page after a cursor is one range of the primary key.
-- Months are cut off `later` when they are aggregated, so that they can be dropped whole.
CREATE TABLE IF NOT EXISTS block (
    conversation VARBINARY(260) NOT NULL,
    last_id BIGINT NOT NULL,
    first_id BIGINT NOT NULL,
    messages INT NOT NULL,
    data LONGBLOB NOT NULL,
    PRIMARY KEY (conversation, last_id)
) ENGINE = InnoDB
PARTITION BY RANGE (last_id) (PARTITION later VALUES LESS THAN MAXVALUE);

-- Months that are aggregated, or about to be. month, edge: the ids they begin and end with.
-- conversation, last_id: the block stored last. They are made in the order of these two, all `sent/…` after all others.
-- messages, blocks, bytes: stored so far, what is stored twice counted twice.
-- aggregated_at: milliseconds by this server's clock; from then on the month is read from its blocks. Null: not yet.
CREATE TABLE IF NOT EXISTS aggregate_month (
    month BIGINT NOT NULL PRIMARY KEY,
    edge BIGINT NOT NULL,
    conversation VARBINARY(260) NOT NULL DEFAULT '',
    last_id BIGINT NOT NULL DEFAULT 0,
    messages BIGINT NOT NULL DEFAULT 0,
    blocks BIGINT NOT NULL DEFAULT 0,
    bytes BIGINT NOT NULL DEFAULT 0,
    aggregated_at BIGINT NULL
) ENGINE = InnoDB;
