-- Bans of users, ended ones too. until_ms: when it ends or ended, milliseconds; 0 if somebody ended it. changed: id of
-- the last change.
CREATE TABLE IF NOT EXISTS ban (
    uid INTEGER NOT NULL PRIMARY KEY,
    until_ms INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    reason TEXT NOT NULL CHECK (length(CAST(reason AS BLOB)) <= 1024)
) STRICT;

CREATE INDEX IF NOT EXISTS ban_by_change ON ban (changed);

-- What operators did. path: method and path of the call. status: as it was answered. detail: JSON.
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL CHECK (length(CAST(name AS BLOB)) <= 512),
    address TEXT NOT NULL CHECK (length(CAST(address AS BLOB)) <= 64),
    path TEXT NOT NULL CHECK (length(CAST(path AS BLOB)) <= 1024),
    status INTEGER NOT NULL,
    detail TEXT NOT NULL CHECK (length(CAST(detail AS BLOB)) <= 4096)
) STRICT;
