-- Tags, deleted ones too.
--
-- made, deleted, changed: ids; deleted is 0 while the tag is there.
CREATE TABLE IF NOT EXISTS tag (
    tag VARBINARY(64) NOT NULL PRIMARY KEY,
    followable TINYINT NOT NULL,
    made BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    title VARBINARY(4096) NOT NULL
) ENGINE = InnoDB;

-- When users held tags: they see messages with an id between the two; left_id is 0 while they hold it.
--
-- sources: bits, 1 manual, 2 profile, 4 follow. changed: id of the last change of the row.
CREATE TABLE IF NOT EXISTS tag_holder (
    tag VARBINARY(64) NOT NULL,
    uid BIGINT NOT NULL,
    joined_id BIGINT NOT NULL,
    left_id BIGINT NOT NULL,
    sources TINYINT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (tag, uid, joined_id),
    KEY tag_holder_by_end (left_id)
) ENGINE = InnoDB;
