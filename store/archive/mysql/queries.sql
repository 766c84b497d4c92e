-- One query follows each name; `store.archive.tables.sql` loads them. MySQL 8 and MariaDB 10.11 take all of them.

-- largest_packet --
-- Bytes a statement may have.
SELECT @@max_allowed_packet

-- server_state --
-- Its version, and its clock in seconds.
SELECT VERSION(), UNIX_TIMESTAMP(NOW(6))

-- shards --
SELECT value FROM store_state WHERE name = 'shards'

-- set_shards --
INSERT INTO store_state (name, value) VALUES ('shards', %s)
ON DUPLICATE KEY UPDATE value = VALUES(value)

-- insert_message --
-- A row that is there already stays as it is. Not INSERT IGNORE: that one loses rows it cannot take, silently.
INSERT INTO message (conversation, id, sender, client_id, ts, form, payload)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE id = id

-- replace_message --
-- A message that was edited or recalled, in whatever order its changes and the message itself come: the newest edit
-- counts, and once it is recalled (form 2) nothing changes it any more.
-- Columns that are compared are set last: `replaced` while `form` is as it was, `form` by what became of `replaced`.
INSERT INTO message (conversation, id, sender, client_id, ts, form, payload, replaced)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    payload = IF(form <> 2 AND (VALUES(form) = 2 OR VALUES(replaced) > replaced), VALUES(payload), payload),
    replaced = IF(form <> 2 AND (VALUES(form) = 2 OR VALUES(replaced) > replaced), VALUES(replaced), replaced),
    form = IF(form <> 2 AND replaced = VALUES(replaced), VALUES(form), form)

-- one_message --
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message
WHERE conversation = %s AND id = %s

-- conversation_page --
-- One conversation between two ids, both excluded, oldest first. Goes into `merged_pages`.
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message
WHERE conversation = %s AND id > %s AND id < %s ORDER BY id LIMIT %s

-- sent_page --
-- Messages that one user sent to others, in the same way. First comes the sender, then what inboxes' conversations
-- begin with, and the sender's own conversation.
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message
WHERE sender = %s AND conversation LIKE CONCAT(%s, '%%') AND conversation <> %s AND id > %s AND id < %s ORDER BY id LIMIT %s

-- merged_pages --
-- {pages}: each of the above in a SELECT of its own, joined by UNION ALL.
{pages} ORDER BY id LIMIT %s

-- newest_messages --
-- The newest up to an id.
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message WHERE id <= %s ORDER BY id DESC LIMIT %s

-- scan_messages --
-- All between two ids, the lower excluded, oldest first.
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message WHERE id > %s AND id <= %s ORDER BY id LIMIT %s

-- highest_id --
SELECT MAX(id) FROM (
    SELECT MAX(id) AS id FROM message UNION ALL SELECT MAX(changed) AS id FROM channel_change
    UNION ALL SELECT MAX(changed) AS id FROM ban UNION ALL SELECT MAX(id) AS id FROM audit
    UNION ALL SELECT MAX(changed) AS id FROM user_state
) AS newest

-- oldest_id --
SELECT MIN(id) FROM message

-- partitions --
-- Name and upper edge (exclusive; the text MAXVALUE for the last) of each partition of a table, oldest first.
SELECT partition_name, partition_description
FROM information_schema.partitions
WHERE table_schema = DATABASE() AND table_name = %s
ORDER BY partition_ordinal_position

-- make_partitions --
-- Cuts months off `later`; {months} is a list of partition_of_month. Rows in `later` move to their month.
ALTER TABLE {table} REORGANIZE PARTITION later INTO ({months}, PARTITION later VALUES LESS THAN MAXVALUE)

-- partition_of_month --
PARTITION {name} VALUES LESS THAN ({edge})

-- drop_partitions --
ALTER TABLE {table} DROP PARTITION {names}

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

-- migration_table --
SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'migration'

-- applied_migrations --
SELECT version FROM migration

-- insert_migration --
INSERT INTO migration (version, name, applied_at) VALUES (%s, %s, %s)

-- aggregated_months --
SELECT month, edge FROM aggregate_month WHERE aggregated_at IS NOT NULL ORDER BY month

-- months_aggregated_for --
-- Those that have been read from blocks for so many milliseconds.
SELECT month, edge FROM aggregate_month
WHERE aggregated_at <= UNIX_TIMESTAMP(NOW(3)) * 1000 - %s ORDER BY month

-- block_heads --
-- Blocks of one conversation that reach into what lies between two ids, both excluded, oldest first. Goes into
-- `merged_heads`.
SELECT conversation, first_id, last_id, messages FROM block
WHERE conversation = %s AND last_id > %s AND first_id < %s ORDER BY last_id LIMIT %s

-- merged_heads --
-- {pages}: each of the above in a SELECT of its own, joined by UNION ALL.
{pages} ORDER BY last_id

-- block_data --
-- Blocks of one conversation that end after one id and at another at the latest.
SELECT data FROM block WHERE conversation = %s AND last_id > %s AND last_id <= %s

-- begin_month --
-- A month that was begun stays as it is.
INSERT INTO aggregate_month (month, edge) VALUES (%s, %s) ON DUPLICATE KEY UPDATE month = month

-- month_progress --
SELECT conversation, last_id, messages, blocks, bytes, replaced FROM aggregate_month WHERE month = %s

-- count_month --
-- The parameters of the two queries below, for a month: the start of inboxes' conversations, twice; then two ids, the
-- upper excluded.
SELECT COUNT(*) + COALESCE(SUM(sender <> '0' AND conversation LIKE CONCAT(%s, '%%')
                               AND conversation <> CONCAT(%s, sender)), 0)
FROM message FORCE INDEX (message_by_sender) WHERE id >= %s AND id < %s

-- received_rows --
-- The messages of a month after one of them, in the order of the primary key.
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message FORCE INDEX (PRIMARY)
WHERE id >= %s AND id < %s AND (conversation > %s OR (conversation = %s AND id > %s))
ORDER BY conversation, id LIMIT %s

-- sent_rows --
-- Messages that users sent to other users in a month, after one of them, by sender and id; none of the service's own.
-- Before the limit comes what inboxes' conversations begin with, twice.
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message FORCE INDEX (message_by_sender)
WHERE id >= %s AND id < %s AND (sender > %s OR (sender = %s AND id > %s))
  AND sender <> '0' AND conversation LIKE CONCAT(%s, '%%') AND conversation <> CONCAT(%s, sender)
ORDER BY sender, id LIMIT %s

-- insert_block --
INSERT INTO block (conversation, first_id, last_id, messages, data) VALUES (%s, %s, %s, %s, %s)

-- advance_month --
-- Changes a row only if the month stands where this process left it, and no message of it was replaced since.
UPDATE aggregate_month
SET conversation = %s, last_id = %s, messages = messages + %s, blocks = blocks + %s, bytes = bytes + %s
WHERE month = %s AND conversation = %s AND last_id = %s AND replaced = %s AND aggregated_at IS NULL

-- finish_month --
-- Changes a row under the same conditions. From here on the month is read from its blocks.
UPDATE aggregate_month SET aggregated_at = UNIX_TIMESTAMP(NOW(3)) * 1000
WHERE month = %s AND conversation = %s AND last_id = %s AND replaced = %s AND aggregated_at IS NULL

-- months_of --
-- The months begun or aggregated that reach between two ids; nobody begins or goes on with one meanwhile.
SELECT month, edge FROM aggregate_month WHERE edge > %s AND month <= %s FOR UPDATE

-- block_of --
-- The block that has a message, if it is in one yet.
SELECT last_id, data FROM block WHERE conversation = %s AND last_id >= %s AND first_id <= %s ORDER BY last_id LIMIT 1

-- change_block --
UPDATE block SET data = %s WHERE conversation = %s AND last_id = %s

-- note_replaced --
-- An aggregation that has read rows of this month, and not stored them yet, reads them again.
UPDATE aggregate_month SET replaced = GREATEST(replaced, %s) WHERE month = %s

-- store_change --
-- The newest change of a channel counts, in whatever order they come.
INSERT INTO channel_change (channel, changed) VALUES (%s, %s)
ON DUPLICATE KEY UPDATE changed = GREATEST(VALUES(changed), changed)

-- newest_changes --
-- The newest up to an id.
SELECT channel, changed FROM channel_change WHERE changed <= %s ORDER BY changed DESC LIMIT %s

-- store_group --
-- The newest row of a group counts, in whatever order they come: `changed` is compared by all and set last.
INSERT INTO im_group (gid, owner, mode, is_open, made, dismissed, changed, name)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    owner = IF(VALUES(changed) > changed, VALUES(owner), owner),
    mode = IF(VALUES(changed) > changed, VALUES(mode), mode),
    is_open = IF(VALUES(changed) > changed, VALUES(is_open), is_open),
    dismissed = IF(VALUES(changed) > changed, VALUES(dismissed), dismissed),
    name = IF(VALUES(changed) > changed, VALUES(name), name),
    changed = GREATEST(VALUES(changed), changed)

-- store_member --
-- A membership ends once: an older row does not open it again.
INSERT INTO group_member (gid, uid, joined_id, left_id, kicked)
VALUES (%s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE left_id = GREATEST(VALUES(left_id), left_id), kicked = GREATEST(VALUES(kicked), kicked)

-- groups_page --
SELECT gid, owner, mode, is_open, made, dismissed, changed, name FROM im_group WHERE gid > %s ORDER BY gid LIMIT %s

-- living_groups --
-- Those with a text in their names, '' for any.
SELECT gid, owner, mode, is_open, made, dismissed, changed, name FROM im_group
WHERE gid > %s AND dismissed = 0
    AND (%s = '' OR LOCATE(%s, CONVERT(name USING utf8mb4) COLLATE utf8mb4_unicode_520_ci) > 0)
ORDER BY gid LIMIT %s

-- members_page --
SELECT gid, uid, joined_id, left_id, kicked FROM group_member
WHERE gid = %s AND (uid > %s OR (uid = %s AND joined_id > %s)) ORDER BY uid, joined_id LIMIT %s

-- store_moderation --
-- The newest row of a group counts, in whatever order they come: `changed` is compared by all and set last.
INSERT INTO group_moderation (gid, changed, muted_until, admins, notice) VALUES (%s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    muted_until = IF(VALUES(changed) > changed, VALUES(muted_until), muted_until),
    admins = IF(VALUES(changed) > changed, VALUES(admins), admins),
    notice = IF(VALUES(changed) > changed, VALUES(notice), notice),
    changed = GREATEST(VALUES(changed), changed)

-- store_mute --
-- The newest row of a user counts, in whatever order they come.
INSERT INTO group_mute (gid, uid, until_ms, changed) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    until_ms = IF(VALUES(changed) > changed, VALUES(until_ms), until_ms),
    changed = GREATEST(VALUES(changed), changed)

-- moderations_page --
SELECT gid, changed, muted_until, admins, notice FROM group_moderation WHERE gid > %s ORDER BY gid LIMIT %s

-- mutes_page --
SELECT gid, uid, until_ms, changed FROM group_mute
WHERE gid > %s OR (gid = %s AND uid > %s) ORDER BY gid, uid LIMIT %s

-- store_tag --
-- The newest row of a tag counts, in whatever order they come: `changed` is compared by all and set last.
INSERT INTO tag (tag, followable, made, deleted, changed, title) VALUES (%s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    followable = IF(VALUES(changed) > changed, VALUES(followable), followable),
    made = IF(VALUES(changed) > changed, VALUES(made), made),
    deleted = IF(VALUES(changed) > changed, VALUES(deleted), deleted),
    title = IF(VALUES(changed) > changed, VALUES(title), title),
    changed = GREATEST(VALUES(changed), changed)

-- store_holder --
-- The newest row of a holder counts, in whatever order they come.
INSERT INTO tag_holder (tag, uid, joined_id, left_id, sources, changed) VALUES (%s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    left_id = IF(VALUES(changed) > changed, VALUES(left_id), left_id),
    sources = IF(VALUES(changed) > changed, VALUES(sources), sources),
    changed = GREATEST(VALUES(changed), changed)

-- tags_page --
SELECT tag, followable, made, deleted, changed, title FROM tag WHERE tag > %s ORDER BY tag LIMIT %s

-- holders_page --
SELECT uid, joined_id, left_id, sources, changed FROM tag_holder
WHERE tag = %s AND (uid > %s OR (uid = %s AND joined_id > %s)) ORDER BY uid, joined_id LIMIT %s

-- holding --
-- The users who hold the tag now.
SELECT uid, joined_id, left_id, sources, changed FROM tag_holder
WHERE tag = %s AND uid > %s AND left_id = 0 ORDER BY uid LIMIT %s

-- delete_holders --
-- Some of what ended below an id, so that no transaction is long.
DELETE FROM tag_holder WHERE left_id > 0 AND left_id < %s LIMIT %s

-- store_ban --
-- The newest row of a user counts, in whatever order they come: `changed` is compared by all and set last.
INSERT INTO ban (uid, until_ms, changed, reason) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    until_ms = IF(VALUES(changed) > changed, VALUES(until_ms), until_ms),
    reason = IF(VALUES(changed) > changed, VALUES(reason), reason),
    changed = GREATEST(VALUES(changed), changed)

-- bans_page --
-- Those that last at a time.
SELECT uid, until_ms, changed, reason FROM ban WHERE uid > %s AND until_ms > %s ORDER BY uid LIMIT %s

-- newest_ban --
-- The last change up to an id.
SELECT MAX(changed) FROM ban WHERE changed <= %s

-- store_audit --
INSERT INTO audit (id, name, address, path, status, detail) VALUES (%s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE id = VALUES(id)

-- audit_page --
-- The newest below an id, of one path or of all, newest first.
SELECT id, name, address, path, status, detail FROM audit WHERE id < %s AND (%s = '' OR path = %s) ORDER BY id DESC LIMIT %s

-- delete_audit --
-- Some of what lies below an id, so that no transaction is long.
DELETE FROM audit WHERE id < %s ORDER BY id LIMIT %s

-- store_state --
-- The newest row of a state counts, in whatever order they come: `changed` is compared by all and set last.
INSERT INTO user_state (uid, name, changed, value) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    value = IF(VALUES(changed) > changed, VALUES(value), value),
    changed = GREATEST(VALUES(changed), changed)

-- delete_state --
-- One that changed later stays.
DELETE FROM user_state WHERE uid = %s AND name = %s AND changed <= %s

-- states_page --
SELECT uid, name, changed, value FROM user_state
WHERE uid > %s OR (uid = %s AND name > %s) ORDER BY uid, name LIMIT %s

-- newest_states --
-- The newest up to an id.
SELECT uid, name, changed, value FROM user_state WHERE changed <= %s ORDER BY changed DESC LIMIT %s
