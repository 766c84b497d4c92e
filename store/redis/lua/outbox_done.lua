#!lua flags=allow-oom
-- Takes entries that are archived or set aside out of the outbox.
--
-- 1. Acknowledges them for the consumer group.
-- 2. Deletes them, and takes the bytes of those that were still there off the outbox's size: an entry that
--    another archiver finished first is not counted twice.
--
-- KEYS: 1 outbox (stream), 2 outbox:bytes (string)
-- ARGV: 1 consumer group, then per entry: id, bytes it was counted with
-- Reply: how many were still there
local outbox, size = KEYS[1], KEYS[2]
local group = ARGV[1]

local deleted, bytes = 0, 0
for i = 2, #ARGV, 2 do
    redis.call('XACK', outbox, group, ARGV[i])
    if redis.call('XDEL', outbox, ARGV[i]) == 1 then
        deleted = deleted + 1
        bytes = bytes + ARGV[i + 1]
    end
end
if bytes > 0 then
    redis.call('DECRBY', size, bytes)
end
return deleted
