-- Read marks, settings and blocks of users. name, value: as Redis has them. changed: id of the newest change; its index is
-- for checking a Redis that was restarted.
CREATE TABLE IF NOT EXISTS user_state (
    uid BIGINT NOT NULL,
    name VARBINARY(1024) NOT NULL,
    changed BIGINT NOT NULL,
    value VARBINARY(4096) NOT NULL,
    PRIMARY KEY (uid, name),
    KEY user_state_changed (changed)
) ENGINE = InnoDB;
