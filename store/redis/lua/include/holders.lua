-- Bringing users' maps of channels into line with who holds a tag.
--
-- include outbox holding
-- KEYS channel_map_prefix tag permissions
-- ARGV channel:text topic:text
-- REPLY -

local rows, row_of, holders_more = {}, {}, 0

-- Notes a user's newest interval, and the sources (bits), for the archive; one that was noted before is noted anew.
local function note(uid, spans, sources)
  local joined, left = string.match(spans, '(%d+):(%d*)$')
  if joined then
    local interval = uid .. ':' .. joined
    row_of[interval] = row_of[interval] or #rows + 1
    rows[row_of[interval]] = table.concat({ interval, left == '' and '0' or left, sources }, ':')
  end
end

local function permit(actor, uid, granted)
  redis.call('XADD', permissions_key, '*', 'a', actor, 'u', uid, 't', topic, 'g', granted and '1' or '0')
end

-- From an id (digits) on the user holds the tag by these sources (bits), or by none. Returns whether the map changed.
local function bring(uid, sources, at)
  local map = channel_map_prefix .. uid
  local before = redis.call('HGET', map, channel) or ''
  local spans = propagated(before, sources > 0, at)
  if spans ~= before then
    redis.call('HSET', map, channel, spans)
    holders_more = holders_more + (sources > 0 and 1 or -1)
    news[#news + 1] = uid
  end
  note(uid, spans, sources)
  return spans ~= before
end

-- The tag has changed at an id (digits): what was noted, as lines for the archive.
local function finish_holders(id)
  if holders_more ~= 0 then
    redis.call('HINCRBY', tag_key, 'holders', holders_more)
  end
  redis.call('HSET', tag_key, 'changed', id)
  return #rows > 0 and '\n' .. id .. '\n' .. table.concat(rows, '\n') or ''
end

