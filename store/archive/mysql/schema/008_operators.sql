-- Bans of users, ended ones too. until_ms: when it ends or ended, milliseconds; 0 if somebody ended it. changed: id of
-- the last change.
CREATE TABLE IF NOT EXISTS ban (
    uid BIGINT NOT NULL PRIMARY KEY,
    until_ms BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    reason VARBINARY(1024) NOT NULL,
    KEY ban_by_change (changed)
) ENGINE = InnoDB;

-- What operators did. path: method and path of the call. status: as it was answered. detail: JSON.
CREATE TABLE IF NOT EXISTS audit (
    id BIGINT NOT NULL PRIMARY KEY,
    name VARBINARY(512) NOT NULL,
    address VARBINARY(64) NOT NULL,
    path VARBINARY(1024) NOT NULL,
    status BIGINT NOT NULL,
    detail VARBINARY(4096) NOT NULL
) ENGINE = InnoDB;
