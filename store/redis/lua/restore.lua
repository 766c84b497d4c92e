-- Puts archived messages back into timelines, under the ids they had. Putting one back twice changes nothing.
--
-- A message to a channel has its name for `channel`, one to inboxes ''. The reply is how many were put back.
--
-- KEYS heads seen inbox_prefix (timeline)...
-- ARGV expire_seconds:s now:ms (timelines:count channel:text id:id record:text)...
-- REPLY messages

local key, argument, messages = FIRST_KEY, FIRST_ARGUMENT, 0
while argument <= #ARGV do
  local count, channel, id, record = tonumber(ARGV[argument]), ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
  for index = key, key + count - 1 do
    redis.call('ZADD', KEYS[index], id, record)
    redis.call('EXPIRE', KEYS[index], expire_seconds)
    if channel == '' then
      redis.call('ZADD', seen_key, 'NX', now, string.sub(KEYS[index], #inbox_prefix + 1))
    end
  end
  if channel ~= '' and tonumber(redis.call('HGET', heads_key, channel) or 0) < tonumber(id) then
    redis.call('HSET', heads_key, channel, id)
  end
  key = key + count
  argument = argument + 4
  messages = messages + 1
end
return messages
