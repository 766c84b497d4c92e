-- Bringing a user's map of channels into line with whether they hold a tag.
--
-- include holding
-- KEYS channel_map_prefix
-- ARGV -
-- REPLY -

-- From an id (digits) on the user holds the tag, or does not. Returns the user's intervals, and whether they changed.
local function bring_map(uid, channel, held, at)
  local map = channel_map_prefix .. uid
  local before = redis.call('HGET', map, channel) or ''
  local spans = propagated(before, held, at)
  if spans ~= before then
    redis.call('HSET', map, channel, spans)
  end
  return spans, spans ~= before
end
