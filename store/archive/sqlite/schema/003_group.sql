-- Groups, dismissed ones too: a gid is never free again.
--
-- mode: `write` or `read`. made, dismissed, changed: ids; dismissed is 0 while the group lives.
CREATE TABLE IF NOT EXISTS im_group (
    gid INTEGER NOT NULL PRIMARY KEY,
    owner INTEGER NOT NULL,
    mode TEXT NOT NULL,
    is_open INTEGER NOT NULL,
    made INTEGER NOT NULL,
    dismissed INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    name TEXT NOT NULL CHECK (length(CAST(name AS BLOB)) <= 4096)
) STRICT;

-- Memberships: a user sees what has an id between the two; left_id is 0 while it lasts.
CREATE TABLE IF NOT EXISTS group_member (
    gid INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    joined_id INTEGER NOT NULL,
    left_id INTEGER NOT NULL,
    kicked INTEGER NOT NULL,
    PRIMARY KEY (gid, uid, joined_id)
) STRICT;
