-- Deletes a tag: from here on nobody holds it. tag_propagate.lua brings that to its holders' maps, and ends it.
--
-- The reply has the id of the change, and what is on links now, as `include/links.lua` says. PROPAGATING: an earlier
-- change is being propagated, propagate it first.
--
-- include batch outbox swap_everywhere
-- guarded
-- KEYS tags
-- ARGV tag:text
-- REPLY outcome=DONE|PROPAGATING id links
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED

local fields = redis.call('HMGET', tag_key, 'made', 'deleted', 'title', 'followable')
if not fields[1] or fields[2] then
  return redis.error_reply('REFUSED unknown_tag')
end
if redis.call('HEXISTS', propagating_key, tag) == 1 then
  return { 'PROPAGATING', 0, links }
end
local id = digits(last + 1)
redis.call('SET', clock_key, id)
redis.call('HSET', tag_key, 'deleted', id)
redis.call('ZREM', tags_key, tag)
put_into_outbox(id .. '-0', 'tag', table.concat({ tag, fields[4], fields[1], id, id, fields[3] }, '\n'))
local counts = {}
for shard = 1, shards do
  counts[shard] = 0
end
swap_everywhere(tag, id, '', counts)
finish()
return { 'DONE', tonumber(id), links }
