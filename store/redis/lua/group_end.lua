-- Ends the next memberships of a dismissed group: they are too many for one call.
--
-- KEYS  1 epoch, 2 clock, 3 outbox, 4 outbox bytes, 5 news (Pub/Sub channel), 6 permissions,
--       7 users' counts of read-mode groups, 8 what the names of users' maps of channels start with,
--       9 the group, 10 its members, 11 who was kicked, 12 users' counts of groups
-- ARGV  1 gid, 2 channel name, 3 who dismissed it
-- Reply how many memberships are left
-- Error EMPTY

local epoch_key, clock_key, outbox_key, outbox_bytes_key, news_channel, permissions_key, reads_key, map_prefix =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local group_key, members_key, kicked_key, groups_key = KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local gid, channel, actor = ARGV[1], ARGV[2], ARGV[3]

if redis.call('EXISTS', epoch_key) == 0 then
  return redis.error_reply('EMPTY no epoch')
end
-- include outbox
-- include memberships
local fields = redis.call('HMGET', group_key, 'ended', 'mode')
if not fields[1] then
  return 0
end
local id = digits(tonumber(redis.call('GET', clock_key)) + 1)
redis.call('SET', clock_key, id)
local left = end_some(fields[1], fields[2], id .. '-0')
finish()
return left
