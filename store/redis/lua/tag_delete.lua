-- Deletes a tag: from here on nobody holds it. tag_propagate.lua brings that to its holders' maps, and ends it.
--
-- The reply has the id of the change. PROPAGATING: an earlier change is being propagated, propagate it first.
--
-- include batch one_shard outbox holding
-- guarded
-- KEYS tag tags propagating former_prefix
-- ARGV tag:text
-- REPLY outcome=DONE|PROPAGATING id
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED FAILED

local fields = redis.call('HMGET', tag_key, 'made', 'deleted', 'title', 'followable')
if not fields[1] or fields[2] then
  return redis.error_reply('REFUSED unknown_tag')
end
if redis.call('HEXISTS', propagating_key, tag) == 1 then
  return { 'PROPAGATING', 0 }
end
local id = digits(last + 1)
redis.call('SET', clock_key, id)
redis.call('HSET', tag_key, 'deleted', id, 'changed', id)
redis.call('ZREM', tags_key, tag)
redis.call('HSET', propagating_key, tag, id)
for _, source in ipairs(SOURCES) do
  local name = source .. ':' .. tag
  if redis.call('EXISTS', holders_prefix .. name) == 1 then
    redis.call('RENAME', holders_prefix .. name, former_prefix .. name)
  end
end
put_into_outbox(id .. '-0', 'tag', table.concat({ tag, fields[4], fields[1], id, id, fields[3] }, '\n'))
finish()
return { 'DONE', tonumber(id) }
