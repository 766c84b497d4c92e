-- Read marks, settings and blocks of users. name, value: as Redis has them. changed: id of the newest change.
CREATE TABLE IF NOT EXISTS user_state (
    uid INTEGER NOT NULL,
    name BLOB NOT NULL CHECK (length(name) <= 1024),
    changed INTEGER NOT NULL,
    value BLOB NOT NULL CHECK (length(value) <= 4096),
    PRIMARY KEY (uid, name)
) STRICT;

-- What changed last, to check a Redis that was restarted.
CREATE INDEX IF NOT EXISTS user_state_changed ON user_state (changed);
