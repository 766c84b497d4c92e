-- Puts archived memberships of a group back in the shard of the users. Doing it twice changes nothing.
--
-- `left` is '0' while it lasts.
--
-- include intervals
-- KEYS channel_map_prefix here_prefix
-- ARGV gid:gid channel:text (uid:uid joined:id left:id)...
-- REPLY ok

for argument = FIRST_ARGUMENT, #ARGV, 3 do
  local uid, joined, left = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2]
  local newest, till = merge_interval(channel_map_prefix .. uid, channel, joined, left)
  if till == '' then
    redis.call('ZADD', here_prefix .. gid, newest, uid)
  else
    redis.call('ZREM', here_prefix .. gid, uid)
  end
end
return redis.status_reply('OK')
