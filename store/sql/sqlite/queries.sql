-- One query follows each name; `store.archive.sql` loads them.

-- insert_message --
-- A row that is there already stays as it is; anything else that is wrong with a row raises.
INSERT INTO message (conversation, id, sender, client_id, ts, form, payload)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (conversation, id) DO NOTHING

-- highest_id --
SELECT MAX(id) FROM message

-- delete_messages --
-- Some of the rows below an id, so that no transaction is long.
DELETE FROM message WHERE rowid IN (SELECT rowid FROM message WHERE id < ? LIMIT ?)

-- create_migration --
-- applied_at: milliseconds.
CREATE TABLE IF NOT EXISTS migration (
    version INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT

-- migration_table --
SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'migration'

-- applied_migrations --
SELECT version FROM migration

-- insert_migration --
INSERT INTO migration (version, name, applied_at) VALUES (?, ?, ?)
