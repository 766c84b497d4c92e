-- The devices of those users who are online, by one look at each bitmap.
--
-- The reply has, per user who is online: uid, { clientid, connected_at, … }.
--
-- include online
-- KEYS devices_prefix
-- ARGV (uid:uid)...
-- REPLY users

local reply = {}
for index = FIRST_ARGUMENT, #ARGV do
  local uid = ARGV[index]
  if is_online(uid) then
    reply[#reply + 1] = uid
    reply[#reply + 1] = redis.call('HGETALL', devices_prefix .. uid)
  end
end
return reply
