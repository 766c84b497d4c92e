-- Tags, deleted ones too.
--
-- made, deleted, changed: ids; deleted is 0 while the tag is there.
CREATE TABLE IF NOT EXISTS tag (
    tag TEXT NOT NULL PRIMARY KEY,
    followable INTEGER NOT NULL,
    made INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    title TEXT NOT NULL CHECK (length(CAST(title AS BLOB)) <= 4096)
) STRICT;

-- When users held tags: they see messages with an id between the two; left_id is 0 while they hold it.
--
-- sources: bits, 1 manual, 2 profile, 4 follow. changed: id of the last change of the row.
CREATE TABLE IF NOT EXISTS tag_holder (
    tag TEXT NOT NULL,
    uid INTEGER NOT NULL,
    joined_id INTEGER NOT NULL,
    left_id INTEGER NOT NULL,
    sources INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    PRIMARY KEY (tag, uid, joined_id)
) STRICT;

CREATE INDEX IF NOT EXISTS tag_holder_by_end ON tag_holder (left_id) WHERE left_id > 0;
