-- What owner and admins have made of a group beside its members.
--
-- changed: id of the last change. muted_until: when the mute of all ends or ended, milliseconds. admins: `uid:id` of each
-- with a space between, the longest-standing first, with the id since which they are.
CREATE TABLE IF NOT EXISTS group_moderation (
    gid BIGINT NOT NULL PRIMARY KEY,
    changed BIGINT NOT NULL,
    muted_until BIGINT NOT NULL,
    admins VARBINARY(4096) NOT NULL,
    notice VARBINARY(8192) NOT NULL
) ENGINE = InnoDB;

-- Mutes of single users. until_ms: when it ends or ended, milliseconds; 0 if somebody ended it. changed: id of the change.
CREATE TABLE IF NOT EXISTS group_mute (
    gid BIGINT NOT NULL,
    uid BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (gid, uid)
) ENGINE = InnoDB;
