-- Puts archived messages back: their bodies, and their ids into timelines. Putting one back twice changes nothing.
--
-- A message has the name of a channel, or '' and uids with a space between. The reply is how many were put back.
--
-- include bodies
-- KEYS heads seen inbox_prefix channel_prefix
-- ARGV window:us now:us (channel:text uids:text id:id record:text)...
-- REPLY messages

-- Each key once in a call.
local renewed = {}
local function renew(name, seconds)
  if not renewed[name] then
    renewed[name] = true
    redis.call('EXPIRE', name, seconds)
  end
end

local heads = {}
for argument = FIRST_ARGUMENT, #ARGV, 4 do
  local channel, uids, id, record = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
  local span = span_of(id)
  redis.call('HSET', bodies_prefix .. span, id, record)
  renew(bodies_prefix .. span, span_expires_in(span, window - now))
  if channel == '' then
    for uid in string.gmatch(uids, '%d+') do
      local inbox = inbox_prefix .. uid .. ':' .. span
      redis.call('ZADD', inbox, id, id)
      renew(inbox, inbox_expires_in(uid, span, window - now))
      if not renewed[uid] then
        renewed[uid] = true
        redis.call('ZADD', seen_key, 'NX', math.floor(now / 1000), uid)
      end
    end
  else
    redis.call('ZADD', channel_prefix .. channel, id, id)
    renew(channel_prefix .. channel, math.ceil(window / 1000000) + 3600)
    heads[channel] = id
  end
end
for channel, id in pairs(heads) do
  if tonumber(redis.call('HGET', heads_key, channel) or 0) < tonumber(id) then
    redis.call('HSET', heads_key, channel, id)
  end
end
return (#ARGV - FIRST_ARGUMENT + 1) / 4
