-- Says what has to be archived before a pull of a user of another shard reads the archive below an id.
--
-- The reply: the oldest id in the outbox, 0 if it is empty; the id below which nothing must wait there; the
-- epoch.
--
-- include replacing
-- guarded
-- KEYS epoch clock
-- ARGV below:id
-- REPLY oldest awaited epoch
-- ERROR EMPTY

local state = redis.call('MGET', epoch_key, clock_key)
if not state[1] then
  return redis.error_reply('EMPTY no epoch')
end
local oldest = oldest_in_outbox()
local awaits_all = is_replacing('-inf', '(' .. below, oldest)
return { tonumber(oldest or 0), awaits_all and tonumber(state[2]) + 1 or tonumber(below), state[1] }
