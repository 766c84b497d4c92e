-- Reads bans that last: those of some users, or all.
--
-- The reply: uid and ban of each, one after the other.
--
-- guarded
-- KEYS epoch bans ban_prefix
-- ARGV (uid:uid)...
-- REPLY bans
-- ERROR EMPTY

if redis.call('EXISTS', epoch_key) == 0 then
  return redis.error_reply('EMPTY no epoch')
end
local uids = {}
for argument = FIRST_ARGUMENT, #ARGV do
  uids[#uids + 1] = ARGV[argument]
end
local found = {}
for _, uid in ipairs(#uids > 0 and uids or redis.call('ZRANGE', bans_key, 0, -1)) do
  local ban = redis.call('GET', ban_prefix .. uid)
  if ban then
    found[#found + 1] = uid
    found[#found + 1] = ban
  end
end
return found
