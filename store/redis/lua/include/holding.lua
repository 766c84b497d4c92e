-- Tells whether a user holds a tag, and what they see of it.
--
-- Sets of users, one for each source, say who holds a tag; each user's map of channels says from when to when. After a
-- change of very many users at once the maps follow step by step: until then `propagated` says what a map would say.
--
-- KEYS holders_prefix
-- ARGV -
-- REPLY -

local SOURCES = { 'manual', 'profile', 'follow' }
local SOURCE_BITS = { manual = 1, profile = 2, follow = 4 }

-- Returns the sources by which the user holds the tag, as bits; 0: they do not hold it.
local function sources_of(tag, uid)
  local bits = 0
  for _, source in ipairs(SOURCES) do
    if redis.call('SISMEMBER', holders_prefix .. source .. ':' .. tag, uid) == 1 then
      bits = bits + SOURCE_BITS[source]
    end
  end
  return bits
end

-- Returns a user's intervals ('' for none) as they are after an id (digits), from which on they hold the tag or do
-- not.
local function propagated(spans, held, at)
  local open = string.sub(spans, -1) == ':'
  if held and not open then
    return (spans == '' and '' or spans .. ',') .. at .. ':'
  end
  return open and not held and spans .. at or spans
end

