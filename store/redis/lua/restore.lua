-- Puts archived messages back: their bodies, and their ids into timelines. Putting one back twice changes nothing.
--
-- A message has the name of a channel, or '' and uids with a space between; there are some thousands of messages at
-- most. The reply is how many were put back.
--
-- include bodies
-- KEYS heads seen inbox_prefix channel_prefix
-- ARGV window:us now:us (channel:text uids:text id:id record:text)...
-- REPLY messages

-- By key what it gets, and the seconds until it expires: each is written once in a call.
local bodies, timelines = {}, {}
local function lies_in(keys, name, seconds, first, second)
  local written = keys[name]
  if not written then
    written = { seconds = seconds }
    keys[name] = written
  end
  written[#written + 1] = first
  written[#written + 1] = second
end

-- What was put back before a window was made longer expires too early.
local function renew(name, seconds)
  if redis.call('TTL', name) < seconds - 60 then
    redis.call('EXPIRE', name, seconds)
  end
end

local heads, users, seen = {}, {}, {}
local left = window - now
for argument = FIRST_ARGUMENT, #ARGV, 4 do
  local channel, uids, id, record = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
  local span = span_of(id)
  lies_in(bodies, bodies_prefix .. span, span_expires_in(span, left), id, record)
  if channel == '' then
    for uid in string.gmatch(uids, '%d+') do
      lies_in(timelines, inbox_prefix .. uid .. ':' .. span, inbox_expires_in(uid, span, left), id, id)
      if not users[uid] then
        users[uid] = true
        seen[#seen + 1] = math.floor(now / 1000)
        seen[#seen + 1] = uid
      end
    end
  else
    lies_in(timelines, channel_prefix .. channel, math.ceil(window / 1000000) + MARGIN_SECONDS, id, id)
    heads[channel] = id
  end
end
for name, fields in pairs(bodies) do
  redis.call('HSET', name, unpack(fields))
  renew(name, fields.seconds)
end
for name, ids in pairs(timelines) do
  redis.call('ZADD', name, unpack(ids))
  renew(name, ids.seconds)
end
if #seen > 0 then
  redis.call('ZADD', seen_key, 'NX', unpack(seen))
end
for channel, id in pairs(heads) do
  if tonumber(redis.call('HGET', heads_key, channel) or 0) < tonumber(id) then
    redis.call('HSET', heads_key, channel, id)
  end
end
return (#ARGV - FIRST_ARGUMENT + 1) / 4
