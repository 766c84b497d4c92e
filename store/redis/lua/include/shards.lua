-- Says in which shard a user's timelines lie (store/redis/shards.py has the same).
--
-- KEYS -
-- ARGV -
-- REPLY -

local USERS_TOGETHER, PRIME, FACTOR = 4096, 16777213, 3088860

local function shard_among(uid, count)
  local block = math.floor(uid / USERS_TOGETHER) % PRIME
  return math.floor(block * FACTOR % PRIME * count / PRIME)
end
