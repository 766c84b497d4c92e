-- Reads which of a user's states (`states.lua`) changed after an id.
--
-- KEYS states_prefix
-- ARGV -
-- REPLY -

-- Returns { 1 if it is cut before its end, name, id of its change, value, … } of the changes above `low` and up to
-- `high`, as far as `limit` states (-1: all) and `max_size` bytes go.
local function states_after(uid, low, high, limit, max_size)
  local page = redis.call('ZRANGEBYSCORE', states_prefix .. 'n:' .. uid, '(' .. low, high, 'WITHSCORES', 'LIMIT', 0, limit)
  local found, size = { #page == limit * 2 and 1 or 0 }, 0
  for first = 1, #page, 2000 do
    local names = {}
    for index = first, math.min(first + 1999, #page), 2 do
      names[#names + 1] = page[index]
    end
    for index, value in ipairs(redis.call('HMGET', states_prefix .. 'v:' .. uid, unpack(names))) do
      if size >= max_size then
        found[1] = 1
        return found
      end
      found[#found + 1], found[#found + 2], found[#found + 3] = names[index], page[first + index * 2 - 1], value
      size = size + #names[index] + #value
    end
  end
  return found
end
