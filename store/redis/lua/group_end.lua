-- Ends the next memberships of a dismissed group: they are too many for one call.
--
-- The reply: how many memberships are left; what is on links now, as `include/links.lua` says. The actor is who
-- dismissed the group.
--
-- include outbox memberships
-- guarded
-- KEYS epoch clock shards group
-- ARGV -
-- REPLY left links
-- ERROR EMPTY

local state = redis.call('MGET', epoch_key, clock_key, shards_key)
if not state[1] then
  return redis.error_reply('EMPTY no epoch')
end
shards = tonumber(state[3] or 1)
local fields = redis.call('HMGET', group_key, 'ended', 'mode')
if not fields[1] then
  return { 0, {} }
end
local id = digits(tonumber(state[2]) + 1)
redis.call('SET', clock_key, id)
local left = end_some(fields[1], fields[2], id .. '-0')
write_links(id)
finish()
return { left, links }
