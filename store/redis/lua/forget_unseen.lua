#!lua flags=allow-oom
-- Forgets users who were never seen, once all that was skipped for them is older than what a pull reaches.
--
-- At `skipped_before` and later nothing was skipped for them.
--
-- KEYS unseen
-- ARGV skipped_before:ms limit:count
-- REPLY forgotten

local uids = redis.call('ZRANGEBYSCORE', unseen_key, '-inf', '(' .. skipped_before, 'LIMIT', 0, limit)
if #uids > 0 then
  redis.call('ZREM', unseen_key, unpack(uids))
end
return #uids
