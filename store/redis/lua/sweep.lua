#!lua flags=allow-oom
-- Makes users dormant who were not seen for long and have no device online: their inboxes go, and appends skip them.
--
-- Those are looked at who were not seen `since`, `most` at once. The reply: users looked at, users made dormant,
-- messages freed, bytes freed.
--
-- KEYS epoch seen dormant inbox_prefix devices_prefix
-- ARGV since:ms now:ms most:count
-- REPLY examined dormant messages memory
-- ERROR EMPTY

if redis.call('EXISTS', epoch_key) == 0 then
  return redis.error_reply('EMPTY no epoch')
end
local uids = redis.call('ZRANGEBYSCORE', seen_key, '-inf', '(' .. since, 'LIMIT', 0, most)
local dormant, messages, bytes = 0, 0, 0
for _, uid in ipairs(uids) do
  if redis.call('EXISTS', devices_prefix .. uid) == 1 then
    redis.call('ZADD', seen_key, now, uid)
  else
    local inbox = inbox_prefix .. uid
    messages = messages + redis.call('ZCARD', inbox)
    bytes = bytes + (redis.call('MEMORY', 'USAGE', inbox) or 0)
    redis.call('UNLINK', inbox)
    redis.call('HSET', dormant_key, uid, '0')
    redis.call('ZREM', seen_key, uid)
    dormant = dormant + 1
  end
end
return { #uids, dormant, messages, bytes }
