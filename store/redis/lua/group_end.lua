-- Ends the next memberships of a dismissed group: they are too many for one call.
--
-- The reply is how many memberships are left. The actor is who dismissed the group.
--
-- include outbox memberships
-- guarded
-- KEYS epoch clock group
-- ARGV -
-- REPLY left
-- ERROR EMPTY

if redis.call('EXISTS', epoch_key) == 0 then
  return redis.error_reply('EMPTY no epoch')
end
local fields = redis.call('HMGET', group_key, 'ended', 'mode')
if not fields[1] then
  return 0
end
local id = digits(tonumber(redis.call('GET', clock_key)) + 1)
redis.call('SET', clock_key, id)
local left = end_some(fields[1], fields[2], id .. '-0')
finish()
return left
