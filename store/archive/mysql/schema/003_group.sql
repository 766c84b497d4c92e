-- Groups, dismissed ones too: a gid is never free again.
--
-- mode: `write` or `read`. made, dismissed, changed: ids; dismissed is 0 while the group lives.
CREATE TABLE IF NOT EXISTS im_group (
    gid BIGINT NOT NULL PRIMARY KEY,
    owner BIGINT NOT NULL,
    mode VARBINARY(8) NOT NULL,
    is_open TINYINT NOT NULL,
    made BIGINT NOT NULL,
    dismissed BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    name VARBINARY(4096) NOT NULL
) ENGINE = InnoDB;

-- Memberships: a user sees what has an id between the two; left_id is 0 while it lasts.
CREATE TABLE IF NOT EXISTS group_member (
    gid BIGINT NOT NULL,
    uid BIGINT NOT NULL,
    joined_id BIGINT NOT NULL,
    left_id BIGINT NOT NULL,
    kicked TINYINT NOT NULL,
    PRIMARY KEY (gid, uid, joined_id)
) ENGINE = InnoDB;
