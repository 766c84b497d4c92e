#!lua flags=allow-oom
-- Makes users dormant who were not seen for long and have no device online: their inboxes go, and appends skip them.
--
-- It looks at users who were not seen since `since`, at most `limit` at once. Their inboxes lie in the spans
-- `first_span` to `last_span`. The reply: users looked at, users made dormant, ids freed, bytes freed.
--
-- KEYS epoch seen dormant inbox_prefix devices_prefix
-- ARGV since:ms now:ms limit:count first_span:count last_span:count
-- REPLY examined dormant messages memory
-- ERROR EMPTY

if redis.call('EXISTS', epoch_key) == 0 then
  return redis.error_reply('EMPTY no epoch')
end
local uids = redis.call('ZRANGEBYSCORE', seen_key, '-inf', '(' .. since, 'LIMIT', 0, limit)
local dormant, messages, bytes = 0, 0, 0
for _, uid in ipairs(uids) do
  if redis.call('EXISTS', devices_prefix .. uid) == 1 then
    redis.call('ZADD', seen_key, now, uid)
  else
    for span = first_span, last_span do
      local inbox = inbox_prefix .. uid .. ':' .. span
      local count = redis.call('ZCARD', inbox)
      if count > 0 then
        messages = messages + count
        bytes = bytes + redis.call('MEMORY', 'USAGE', inbox)
        redis.call('UNLINK', inbox)
      end
    end
    redis.call('HSET', dormant_key, uid, '0')
    redis.call('ZREM', seen_key, uid)
    dormant = dormant + 1
  end
end
return { #uids, dormant, messages, bytes }
