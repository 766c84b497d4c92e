#!lua flags=allow-oom
-- Takes entries that are archived or set aside out of the outbox.
--
-- 1. Acknowledges them for the consumer group.
-- 2. Deletes them, and takes the bytes of those that were still there off the outbox's size: an entry that
--    another archiver finished first is not counted twice.
--
-- `counted` is what the entry was counted with. The reply is how many were still there.
--
-- KEYS outbox outbox_bytes
-- ARGV group:text (id:id counted:bytes)...
-- REPLY deleted

local deleted, bytes = 0, 0
for index = FIRST_ARGUMENT, #ARGV, 2 do
  redis.call('XACK', outbox_key, group, ARGV[index])
  if redis.call('XDEL', outbox_key, ARGV[index]) == 1 then
    deleted = deleted + 1
    bytes = bytes + ARGV[index + 1]
  end
end
if bytes > 0 then
  redis.call('DECRBY', outbox_bytes_key, bytes)
end
return deleted
