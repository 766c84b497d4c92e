-- What owner and admins have made of a group beside its members.
--
-- changed: id of the last change. muted_until: when the mute of all ends or ended, milliseconds. admins: `uid:id` of each
-- with a space between, the longest-standing first, with the id since which they are.
CREATE TABLE IF NOT EXISTS group_moderation (
    gid INTEGER NOT NULL PRIMARY KEY,
    changed INTEGER NOT NULL,
    muted_until INTEGER NOT NULL,
    admins TEXT NOT NULL CHECK (length(CAST(admins AS BLOB)) <= 4096),
    notice TEXT NOT NULL CHECK (length(CAST(notice AS BLOB)) <= 8192)
) STRICT;

-- Mutes of single users. until_ms: when it ends or ended, milliseconds; 0 if somebody ended it. changed: id of the change.
CREATE TABLE IF NOT EXISTS group_mute (
    gid INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    PRIMARY KEY (gid, uid)
) STRICT;
