-- Starts a life of the store in this shard, if it has none: a name, and a clock above every id ever given. There are
-- `new_shards`.
--
-- The reply is the epoch that counts now.
--
-- KEYS epoch clock heads layout shards
-- ARGV new_epoch:text lowest_clock:us new_layout:text new_shards:count
-- REPLY epoch

-- A small hash is packed: when a pull asks for many of its fields, it is searched from its beginning for each. One with
-- a field as long as this never is.
redis.call('HSET', heads_key, string.rep('-', 65), '0')

redis.call('SET', layout_key, new_layout)
if new_shards > 1 then
  redis.call('SET', shards_key, string.format('%d', new_shards))
else
  redis.call('DEL', shards_key)
end
if redis.call('SET', epoch_key, new_epoch, 'NX') then
  local clock = math.max(tonumber(redis.call('GET', clock_key) or 0), lowest_clock)
  redis.call('SET', clock_key, string.format('%.0f', clock))
end
return redis.call('GET', epoch_key)
