-- Tells whether one user blocks another. Beside the set of each user there is one of those who block anybody. The home
-- has those of all users, as it judges what is written.
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

-- A state of a user has changed, which may be a block (`states.lua`).
local function note_block(uid, name, value)
  local blocked = string.match(name, '^b:(%d+)$')
  if blocked and value ~= '' then
    redis.call('SADD', blocks_prefix .. uid, blocked)
    redis.call('SADD', blocks_prefix, uid)
  elseif blocked and redis.call('SREM', blocks_prefix .. uid, blocked) == 1 then
    if redis.call('EXISTS', blocks_prefix .. uid) == 0 then
      redis.call('SREM', blocks_prefix, uid)
    end
  end
end
