-- Bans a user until a time, or ends their ban.
--
-- A ban ends by itself: its key expires. `ends_at`: 0 ends it. The reply has the id of the change, 0 if there is nothing
-- to end.
--
-- include batch one_shard outbox
-- guarded
-- KEYS ban bans bans_changed
-- ARGV uid:uid ends_at:ms reason:text
-- REPLY id
-- ERROR EMPTY BEHIND OUTBOXFULL FAILED

redis.call('ZREMRANGEBYSCORE', bans_key, '-inf', now_ms)
if ends_at == 0 and redis.call('EXISTS', ban_key) == 0 then
  return 0
end
local id = digits(last + 1)
redis.call('SET', clock_key, id)
if ends_at == 0 then
  redis.call('DEL', ban_key)
  redis.call('ZREM', bans_key, uid)
else
  redis.call('SET', ban_key, digits(ends_at) .. '\n' .. id .. '\n' .. reason, 'PXAT', digits(ends_at))
  redis.call('ZADD', bans_key, digits(ends_at), uid)
end
redis.call('SET', bans_changed_key, id)
put_into_outbox(id .. '-0', 'ban', table.concat({ uid, digits(ends_at), id, reason }, '\n'))
finish()
return tonumber(id)
