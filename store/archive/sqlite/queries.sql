-- One query follows each name; `store.archive.tables.sql` loads them.

-- shards --
SELECT value FROM store_state WHERE name = 'shards'

-- set_shards --
INSERT INTO store_state (name, value) VALUES ('shards', ?)
ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- insert_message --
-- A row that is there already stays as it is; anything else that is wrong with a row raises.
INSERT INTO message (conversation, id, sender, client_id, ts, form, payload)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (conversation, id) DO NOTHING

-- replace_message --
-- A message that was edited or recalled, in whatever order its changes and the message itself come: the newest edit
-- counts, and once it is recalled (form 2) nothing changes it any more.
INSERT INTO message (conversation, id, sender, client_id, ts, form, payload, replaced)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (conversation, id) DO UPDATE SET form = excluded.form, payload = excluded.payload,
    replaced = excluded.replaced
WHERE message.form <> 2 AND (excluded.form = 2 OR excluded.replaced > message.replaced)

-- one_message --
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message
WHERE conversation = ? AND id = ?

-- conversation_page --
-- One conversation between two ids, both excluded, oldest first. Goes into `merged_pages`.
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message
WHERE conversation = ? AND id > ? AND id < ? ORDER BY id LIMIT ?

-- sent_page --
-- Messages that one user sent to others, in the same way. First comes the sender, then what inboxes' conversations
-- begin with, and the sender's own conversation.
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message
WHERE sender = ? AND conversation LIKE ? || '%' AND conversation <> ? AND id > ? AND id < ? ORDER BY id LIMIT ?

-- merged_pages --
-- {pages}: each of the above in a SELECT of its own, joined by UNION ALL.
{pages} ORDER BY id LIMIT ?

-- newest_messages --
-- The newest up to an id.
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message WHERE id <= ? ORDER BY id DESC LIMIT ?

-- scan_messages --
-- All between two ids, the lower excluded, oldest first.
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message WHERE id > ? AND id <= ? ORDER BY id LIMIT ?

-- highest_id --
SELECT MAX(id) FROM (
    SELECT MAX(id) AS id FROM message UNION ALL SELECT MAX(changed) AS id FROM channel_change
    UNION ALL SELECT MAX(changed) AS id FROM ban UNION ALL SELECT MAX(id) AS id FROM audit
    UNION ALL SELECT MAX(changed) AS id FROM user_state
) AS newest

-- oldest_id --
SELECT MIN(id) FROM message

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

-- aggregated_months --
SELECT month, edge FROM aggregate_month WHERE aggregated_at IS NOT NULL ORDER BY month

-- months_aggregated_for --
-- Those that have been read from blocks for so many milliseconds.
SELECT month, edge FROM aggregate_month
WHERE aggregated_at <= (julianday('now') - 2440587.5) * 86400000 - ? ORDER BY month

-- block_heads --
-- Blocks of one conversation that reach into what lies between two ids, both excluded, oldest first. Goes into
-- `merged_heads`.
SELECT conversation, first_id, last_id, messages FROM block
WHERE conversation = ? AND last_id > ? AND first_id < ? ORDER BY last_id LIMIT ?

-- merged_heads --
-- {pages}: each of the above in a SELECT of its own, joined by UNION ALL.
{pages} ORDER BY last_id

-- block_data --
-- Blocks of one conversation that end after one id and at another at the latest.
SELECT data FROM block WHERE conversation = ? AND last_id > ? AND last_id <= ?

-- begin_month --
-- A month that was begun stays as it is.
INSERT INTO aggregate_month (month, edge) VALUES (?, ?) ON CONFLICT (month) DO NOTHING

-- month_progress --
SELECT conversation, last_id, messages, blocks, bytes, replaced FROM aggregate_month WHERE month = ?

-- count_month --
-- The parameters of the two queries below, for a month: the start of inboxes' conversations, twice; then two ids, the
-- upper excluded.
SELECT COUNT(*) + COALESCE(SUM(sender <> '0' AND conversation LIKE ? || '%'
                               AND conversation <> ? || sender), 0)
FROM message WHERE id >= ? AND id < ?

-- received_rows --
-- The messages of a month after one of them, in the order of the primary key. The plus keeps SQLite from the index on
-- id, which would have it sort the month for every page.
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message
WHERE +id >= ? AND +id < ? AND (conversation, id) > (?, ?)
ORDER BY conversation, id LIMIT ?

-- sent_rows --
-- Messages that users sent to other users in a month, after one of them, by sender and id; none of the service's own.
-- Before the limit comes what inboxes' conversations begin with, twice.
SELECT conversation, id, sender, client_id, ts, form, payload, replaced FROM message
WHERE +id >= ? AND +id < ? AND (sender, id) > (?, ?)
  AND sender <> '0' AND +conversation LIKE ? || '%' AND conversation <> ? || sender
ORDER BY sender, id LIMIT ?

-- insert_block --
INSERT INTO block (conversation, first_id, last_id, messages, data) VALUES (?, ?, ?, ?, ?)

-- advance_month --
-- Changes a row only if the month stands where this process left it, and no message of it was replaced since.
UPDATE aggregate_month
SET conversation = ?, last_id = ?, messages = messages + ?, blocks = blocks + ?, bytes = bytes + ?
WHERE month = ? AND conversation = ? AND last_id = ? AND replaced = ? AND aggregated_at IS NULL

-- finish_month --
-- Changes a row under the same conditions. From here on the month is read from its blocks.
UPDATE aggregate_month SET aggregated_at = CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
WHERE month = ? AND conversation = ? AND last_id = ? AND replaced = ? AND aggregated_at IS NULL

-- months_of --
-- The months begun or aggregated that reach between two ids; nobody begins or goes on with one meanwhile.
SELECT month, edge FROM aggregate_month WHERE edge > ? AND month <= ?

-- block_of --
-- The block that has a message, if it is in one yet.
SELECT last_id, data FROM block WHERE conversation = ? AND last_id >= ? AND first_id <= ? ORDER BY last_id LIMIT 1

-- change_block --
UPDATE block SET data = ? WHERE conversation = ? AND last_id = ?

-- note_replaced --
-- An aggregation that has read rows of this month, and not stored them yet, reads them again.
UPDATE aggregate_month SET replaced = MAX(replaced, ?) WHERE month = ?

-- delete_blocks --
-- Some of the blocks that end below an id, so that no transaction is long.
DELETE FROM block WHERE rowid IN (SELECT rowid FROM block WHERE last_id < ? LIMIT ?)

-- store_change --
-- The newest change of a channel counts, in whatever order they come.
INSERT INTO channel_change (channel, changed) VALUES (?, ?)
ON CONFLICT (channel) DO UPDATE SET changed = excluded.changed WHERE excluded.changed > channel_change.changed

-- newest_changes --
-- The newest up to an id.
SELECT channel, changed FROM channel_change WHERE changed <= ? ORDER BY changed DESC LIMIT ?

-- store_group --
-- The newest row of a group counts, in whatever order they come.
INSERT INTO im_group (gid, owner, mode, is_open, made, dismissed, changed, name) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (gid) DO UPDATE SET owner = excluded.owner, mode = excluded.mode, is_open = excluded.is_open,
    made = excluded.made, dismissed = excluded.dismissed, changed = excluded.changed, name = excluded.name
WHERE excluded.changed > im_group.changed

-- store_member --
-- A membership ends once: an older row does not open it again.
INSERT INTO group_member (gid, uid, joined_id, left_id, kicked) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (gid, uid, joined_id) DO UPDATE SET left_id = excluded.left_id, kicked = excluded.kicked
WHERE excluded.left_id > group_member.left_id

-- groups_page --
SELECT gid, owner, mode, is_open, made, dismissed, changed, name FROM im_group WHERE gid > ? ORDER BY gid LIMIT ?

-- living_groups --
-- Those with a text in their names, '' for any.
SELECT gid, owner, mode, is_open, made, dismissed, changed, name FROM im_group
WHERE gid > ? AND dismissed = 0 AND (? = '' OR instr(folded(name), ?) > 0) ORDER BY gid LIMIT ?

-- members_page --
SELECT gid, uid, joined_id, left_id, kicked FROM group_member
WHERE gid = ? AND (uid, joined_id) > (?, ?) ORDER BY uid, joined_id LIMIT ?

-- store_moderation --
-- The newest row of a group counts, in whatever order they come.
INSERT INTO group_moderation (gid, changed, muted_until, admins, notice) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (gid) DO UPDATE SET changed = excluded.changed, muted_until = excluded.muted_until,
    admins = excluded.admins, notice = excluded.notice
WHERE excluded.changed > group_moderation.changed

-- store_mute --
-- The newest row of a user counts, in whatever order they come.
INSERT INTO group_mute (gid, uid, until_ms, changed) VALUES (?, ?, ?, ?)
ON CONFLICT (gid, uid) DO UPDATE SET until_ms = excluded.until_ms, changed = excluded.changed
WHERE excluded.changed > group_mute.changed

-- moderations_page --
SELECT gid, changed, muted_until, admins, notice FROM group_moderation WHERE gid > ? ORDER BY gid LIMIT ?

-- mutes_page --
SELECT gid, uid, until_ms, changed FROM group_mute WHERE (gid, uid) > (?, ?) ORDER BY gid, uid LIMIT ?

-- store_tag --
-- The newest row of a tag counts, in whatever order they come.
INSERT INTO tag (tag, followable, made, deleted, changed, title) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (tag) DO UPDATE SET followable = excluded.followable, made = excluded.made, deleted = excluded.deleted,
    changed = excluded.changed, title = excluded.title
WHERE excluded.changed > tag.changed

-- store_holder --
-- The newest row of a holder counts, in whatever order they come.
INSERT INTO tag_holder (tag, uid, joined_id, left_id, sources, changed) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (tag, uid, joined_id) DO UPDATE SET left_id = excluded.left_id, sources = excluded.sources,
    changed = excluded.changed
WHERE excluded.changed > tag_holder.changed

-- tags_page --
SELECT tag, followable, made, deleted, changed, title FROM tag WHERE tag > ? ORDER BY tag LIMIT ?

-- holders_page --
SELECT uid, joined_id, left_id, sources, changed FROM tag_holder
WHERE tag = ? AND (uid, joined_id) > (?, ?) ORDER BY uid, joined_id LIMIT ?

-- holding --
-- The users who hold the tag now.
SELECT uid, joined_id, left_id, sources, changed FROM tag_holder
WHERE tag = ? AND uid > ? AND left_id = 0 ORDER BY uid LIMIT ?

-- delete_holders --
-- Some of what ended below an id, so that no transaction is long.
DELETE FROM tag_holder WHERE rowid IN (SELECT rowid FROM tag_holder WHERE left_id > 0 AND left_id < ? LIMIT ?)

-- store_ban --
-- The newest row of a user counts, in whatever order they come.
INSERT INTO ban (uid, until_ms, changed, reason) VALUES (?, ?, ?, ?)
ON CONFLICT (uid) DO UPDATE SET until_ms = excluded.until_ms, changed = excluded.changed, reason = excluded.reason
WHERE excluded.changed > ban.changed

-- bans_page --
-- Those that last at a time.
SELECT uid, until_ms, changed, reason FROM ban WHERE uid > ? AND until_ms > ? ORDER BY uid LIMIT ?

-- newest_ban --
-- The last change up to an id.
SELECT MAX(changed) FROM ban WHERE changed <= ?

-- store_audit --
INSERT INTO audit (id, name, address, path, status, detail) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING

-- audit_page --
-- The newest below an id, of one path or of all, newest first.
SELECT id, name, address, path, status, detail FROM audit WHERE id < ? AND (? = '' OR path = ?) ORDER BY id DESC LIMIT ?

-- delete_audit --
-- Some of what lies below an id, so that no transaction is long.
DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < ? LIMIT ?)

-- store_state --
-- The newest row of a state counts, in whatever order they come.
INSERT INTO user_state (uid, name, changed, value) VALUES (?, ?, ?, ?)
ON CONFLICT (uid, name) DO UPDATE SET changed = excluded.changed, value = excluded.value
WHERE excluded.changed > user_state.changed

-- delete_state --
-- One that changed later stays.
DELETE FROM user_state WHERE uid = ? AND name = ? AND changed <= ?

-- states_page --
SELECT uid, name, changed, value FROM user_state WHERE (uid, name) > (?, ?) ORDER BY uid, name LIMIT ?

-- newest_states --
-- The newest up to an id.
SELECT uid, name, changed, value FROM user_state WHERE changed <= ? ORDER BY changed DESC LIMIT ?
