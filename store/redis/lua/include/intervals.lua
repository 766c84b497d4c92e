-- The intervals of ids in which a user sees a channel, in their map of channels: `J:L,J:L,J:`. Beginning or ending one
-- twice changes nothing.
--
-- KEYS -
-- ARGV -
-- REPLY -

local function begin_interval(map, channel, id)
  local before = redis.call('HGET', map, channel)
  local newest = before and string.match(before, '(%d+):%d*$')
  if not newest or tonumber(newest) < tonumber(id) then
    redis.call('HSET', map, channel, (before and before .. ',' or '') .. id .. ':')
  end
end

-- joined: where the map has nothing of it.
local function end_interval(map, channel, id, joined)
  local before = redis.call('HGET', map, channel) or joined and joined .. ':'
  if before and string.sub(before, -1) == ':' then
    redis.call('HSET', map, channel, before .. id)
  end
end

-- Puts an interval of the archive (left: '0' while it lasts) beside those that the map has; of one that both know, what
-- the map says counts where it has ended. Returns the newest interval: its beginning and its end ('': none).
local function merge_interval(map, channel, joined, left)
  local ends, joins = { [joined] = left == '0' and '' or left }, { joined }
  for since, till in string.gmatch(redis.call('HGET', map, channel) or '', '(%d+):(%d*)') do
    if since ~= joined then
      joins[#joins + 1] = since
      ends[since] = till
    elseif ends[joined] == '' then
      ends[joined] = till
    end
  end
  table.sort(joins, function(one, other) return tonumber(one) < tonumber(other) end)
  local spans = {}
  for index, since in ipairs(joins) do
    spans[index] = since .. ':' .. ends[since]
  end
  redis.call('HSET', map, channel, table.concat(spans, ','))
  local newest = joins[#joins]
  return newest, ends[newest]
end
