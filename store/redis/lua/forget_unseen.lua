#!lua flags=allow-oom
-- Forgets users who were never seen, once all that was skipped for them is older than what a pull reaches.
--
-- KEYS  1 unseen
-- ARGV  1 nothing was skipped for them since (ms), 2 most users to forget
-- Reply how many were forgotten

local uids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
if #uids > 0 then
  redis.call('ZREM', KEYS[1], unpack(uids))
end
return #uids
