-- One query follows each name; `store.archive.sql` loads them. MySQL 8 and MariaDB 10.11 take all of them.

-- largest_packet --
-- Bytes a statement may have.
SELECT @@max_allowed_packet

-- insert_message --
-- A row that is there already stays as it is. Not INSERT IGNORE: that one loses rows it cannot take, silently.
INSERT INTO message (conversation, id, sender, client_id, ts, form, payload)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE id = id

-- conversation_page --
-- One conversation between two ids, both excluded, oldest first. Goes into `merged_pages`.
SELECT conversation, id, sender, client_id, ts, form, payload FROM message
WHERE conversation = %s AND id > %s AND id < %s ORDER BY id LIMIT %s

-- sent_page --
-- What one user sent to others, likewise; the second name is his own conversation.
SELECT conversation, id, sender, client_id, ts, form, payload FROM message
WHERE sender = %s AND conversation LIKE 'single/%%' AND conversation <> %s AND id > %s AND id < %s ORDER BY id LIMIT %s

-- merged_pages --
-- {pages}: each of the above in a SELECT of its own, joined by UNION ALL.
{pages} ORDER BY id LIMIT %s

-- newest_messages --
-- The newest up to an id.
SELECT conversation, id, sender, client_id, ts, form, payload FROM message WHERE id <= %s ORDER BY id DESC LIMIT %s

-- scan_messages --
-- All between two ids, the lower excluded, oldest first.
SELECT conversation, id, sender, client_id, ts, form, payload FROM message WHERE id > %s AND id <= %s ORDER BY id LIMIT %s

-- highest_id --
SELECT MAX(id) FROM message

-- partitions --
-- Name and upper edge (exclusive; the text MAXVALUE for the last) of each partition, oldest first.
SELECT partition_name, partition_description
FROM information_schema.partitions
WHERE table_schema = DATABASE() AND table_name = 'message'
ORDER BY partition_ordinal_position

-- make_partitions --
-- Cuts months off `later`; {months} is a list of partition_of_month. Rows in `later` move to their month.
ALTER TABLE message REORGANIZE PARTITION later INTO ({months}, PARTITION later VALUES LESS THAN MAXVALUE)

-- partition_of_month --
PARTITION {name} VALUES LESS THAN ({edge})

-- drop_partitions --
ALTER TABLE message DROP PARTITION {names}

-- lock_schema --
-- 1 when this connection now holds the lock, 0 when another one held it for all of the %s seconds.
SELECT GET_LOCK(LEFT(CONCAT('emqx-im schema ', DATABASE()), 64), %s)

-- unlock_schema --
SELECT RELEASE_LOCK(LEFT(CONCAT('emqx-im schema ', DATABASE()), 64))

-- create_migration --
-- applied_at: milliseconds.
CREATE TABLE IF NOT EXISTS migration (
    version INT NOT NULL PRIMARY KEY,
    name VARBINARY(255) NOT NULL,
    applied_at BIGINT NOT NULL
) ENGINE = InnoDB

-- applied_migrations --
SELECT version FROM migration

-- insert_migration --
INSERT INTO migration (version, name, applied_at) VALUES (%s, %s, %s)
