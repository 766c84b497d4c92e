-- Starts a life of the store, if it has none: a random name, and a clock above every id ever given.
--
-- KEYS  1 epoch, 2 clock, 3 heads
-- ARGV  1 the new epoch, 2 lowest clock allowed (us)
-- Reply the epoch that counts now

local epoch_key, clock_key, heads_key = KEYS[1], KEYS[2], KEYS[3]

-- A small hash is packed: when a pull asks for many of its fields, it is searched from its beginning for each. One with
-- a field as long as this never is.
redis.call('HSET', heads_key, string.rep('-', 65), '0')

if redis.call('SET', epoch_key, ARGV[1], 'NX') then
  local clock = math.max(tonumber(redis.call('GET', clock_key) or 0), tonumber(ARGV[2]))
  redis.call('SET', clock_key, string.format('%.0f', clock))
end
return redis.call('GET', epoch_key)
