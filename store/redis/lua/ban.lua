-- Bans a user until a time, or ends their ban.
--
-- A ban ends by itself: its key expires. Where there are several shards, the home has all of them, and the user's shard has
-- theirs, which pulls read there. `ends_at`: 0 ends it. The reply has the id of the change, 0 if there is nothing to end;
-- and what is on links now, as `include/links.lua` says.
--
-- include batch outbox
-- guarded
-- KEYS ban bans bans_changed
-- ARGV uid:uid ends_at:ms reason:text
-- REPLY id links
-- ERROR EMPTY BEHIND OUTBOXFULL

redis.call('ZREMRANGEBYSCORE', bans_key, '-inf', now_ms)
if ends_at == 0 and redis.call('EXISTS', ban_key) == 0 then
  return { 0, links }
end
local id = digits(last + 1)
redis.call('SET', clock_key, id)
local kept = digits(ends_at) .. '\n' .. id .. '\n' .. reason
if ends_at == 0 then
  redis.call('DEL', ban_key)
  redis.call('ZREM', bans_key, uid)
else
  redis.call('SET', ban_key, kept, 'PXAT', digits(ends_at))
  redis.call('ZADD', bans_key, digits(ends_at), uid)
end
redis.call('SET', bans_changed_key, id)
put_into_outbox(id .. '-0', 'ban', table.concat({ uid, digits(ends_at), id, reason }, '\n'))
local shard = shards > 1 and shard_among(uid, shards) or 0
if shard > 0 then
  put_on_link(shard, id, { 'ban', uid, digits(ends_at), kept })
  write_links(id)
end
finish()
return { tonumber(id), links }
