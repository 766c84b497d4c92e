-- Tells whether one user blocks another. Beside the set of each user there is one of those who block anybody.
--
-- KEYS blocks_prefix
-- ARGV -
-- REPLY -

local function is_blocked(by, uid)
  return redis.call('SISMEMBER', blocks_prefix .. by, uid) == 1
end

-- Those among users who block anybody, as a set; nil if nobody does.
local function blockers_among(uids)
  if #uids == 0 or redis.call('EXISTS', blocks_prefix) == 0 then
    return nil
  end
  local found
  for first = 1, #uids, 5000 do
    local known = redis.call('SMISMEMBER', blocks_prefix, unpack(uids, first, math.min(first + 4999, #uids)))
    for index, is_one in ipairs(known) do
      if is_one == 1 then
        found = found or {}
        found[uids[first + index - 1]] = true
      end
    end
  end
  return found
end
