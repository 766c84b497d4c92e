-- Puts archived mutes of a group back, before the rest of what moderates it, unless what Redis holds is newer: it knows
-- of all changes up to `moderated`. Doing it twice changes nothing.
--
-- Per mute: the user, until when, and the id of its change.
--
-- KEYS group mutes
-- ARGV (uid:uid until:ms changed:id)...
-- REPLY ok

local known = redis.call('HMGET', group_key, 'moderated', 'made', 'dismissed', 'mutes_until')
if not known[2] or known[3] then
  return redis.status_reply('OK')
end
local longest = tonumber(known[4] or 0)
for argument = FIRST_ARGUMENT, #ARGV, 3 do
  local uid, ends = ARGV[argument], tonumber(ARGV[argument + 1])
  if tonumber(ARGV[argument + 2]) > tonumber(known[1] or 0) then
    if ends == 0 then
      redis.call('ZREM', mutes_key, uid)
    else
      redis.call('ZADD', mutes_key, ARGV[argument + 1], uid)
      longest = math.max(longest, ends)
    end
  end
end
redis.call('HSET', group_key, 'mutes_until', string.format('%d', longest))
return redis.status_reply('OK')
