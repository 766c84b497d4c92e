-- Says how far each link has come, and up to which id everything has been put on the links.
--
-- A quiet home moves its clock here, so that other shards have everything up to now. The reply: the home's life; its
-- clock; then for each other shard the id of the newest entry of its link.
--
-- guarded
-- KEYS epoch clock shards links
-- ARGV caller_time:us
-- REPLY life clock tails
-- ERROR EMPTY

local state = redis.call('MGET', epoch_key, clock_key, shards_key)
if not state[1] then
  return redis.error_reply('EMPTY no epoch')
end
local time = redis.call('TIME')
local now = math.min(time[1] * 1000000 + time[2], caller_time + 5000000)
local clock = tonumber(state[2] or 0)
if now - clock > 1000000 then
  clock = now
  redis.call('SET', clock_key, string.format('%d', clock))
end
local tails = {}
for shard = 1, tonumber(state[3] or 1) - 1 do
  tails[shard] = tonumber(redis.call('HGET', links_key, shard) or 0)
end
return { tonumber(redis.call('HGET', links_key, 'life') or 1), clock, tails }
