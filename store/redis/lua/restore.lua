-- Puts archived messages back into timelines, under the ids they had. Putting one back twice changes nothing.
--
-- KEYS  1 heads, 2 seen, 3 what inboxes' names start with; then per message: timelines
-- ARGV  1 seconds until a timeline expires, 2 now (ms);
--       then per message: number of timelines, channel name ('' for inboxes), id, record
-- Reply messages put back

local heads_key, seen_key, inbox_prefix = KEYS[1], KEYS[2], KEYS[3]
local expire_seconds, now = ARGV[1], ARGV[2]

local key, argument, messages = 4, 3, 0
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
