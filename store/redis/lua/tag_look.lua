-- Looks in a shard at which of its users hold a tag, and since when.
--
-- The reply is for `tag_holders.lua`.
--
-- include timelines holding
-- guarded
-- KEYS channel_map_prefix
-- ARGV tag:text channel:text (uid:uid)...
-- REPLY looked
-- ERROR EMPTY

local users = {}
for argument = FIRST_ARGUMENT, #ARGV do
  local uid = ARGV[argument]
  users[uid] = { sources_of(tag, uid), redis.call('HGET', channel_map_prefix .. uid, channel) or '' }
end
return cmsgpack.pack({ clock = tonumber(state[2] or 0), users = users })
