-- Puts what moderates an archived group back, once its mutes are, unless what Redis holds is newer. Doing it twice
-- changes nothing.
--
-- KEYS group
-- ARGV moderated:id muted_until:ms admins:text notice:text
-- REPLY ok

local known = redis.call('HMGET', group_key, 'moderated', 'made', 'dismissed')
if known[2] and not known[3] and tonumber(known[1] or 0) < tonumber(moderated) then
  redis.call('HSET', group_key, 'moderated', moderated, 'muted_until', string.format('%d', muted_until),
    'admins', admins, 'notice', notice)
end
return redis.status_reply('OK')
