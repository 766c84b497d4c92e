-- One query follows each name; `store.archive.sql` loads them.

-- insert_message --
-- A row that is there already stays as it is; anything else that is wrong with a row raises.
INSERT INTO message (conversation, id, sender, client_id, ts, form, payload)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (conversation, id) DO NOTHING

-- conversation_page --
-- One conversation between two ids, both excluded, oldest first. Goes into `merged_pages`.
SELECT conversation, id, sender, client_id, ts, form, payload FROM message
WHERE conversation = ? AND id > ? AND id < ? ORDER BY id LIMIT ?

-- sent_page --
-- What one user sent to others, likewise; the second name is his own conversation.
SELECT conversation, id, sender, client_id, ts, form, payload FROM message
WHERE sender = ? AND conversation LIKE 'single/%' AND conversation <> ? AND id > ? AND id < ? ORDER BY id LIMIT ?

-- merged_pages --
-- {pages}: each of the above in a SELECT of its own, joined by UNION ALL.
{pages} ORDER BY id LIMIT ?

-- newest_messages --
-- The newest up to an id.
SELECT conversation, id, sender, client_id, ts, form, payload FROM message WHERE id <= ? ORDER BY id DESC LIMIT ?

-- scan_messages --
-- All between two ids, the lower excluded, oldest first.
SELECT conversation, id, sender, client_id, ts, form, payload FROM message WHERE id > ? AND id <= ? ORDER BY id LIMIT ?

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
