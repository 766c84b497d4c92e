-- Makes a tag, or changes what it is.
--
-- The reply has the id of the change, and no links. PROPAGATING: the tag is being deleted, propagate it first.
--
-- include batch outbox
-- guarded
-- KEYS tag tags propagating
-- ARGV tag:text title:text followable:flag
-- REPLY outcome=DONE|UNCHANGED|PROPAGATING id links
-- ERROR EMPTY BEHIND OUTBOXFULL

local fields = redis.call('HMGET', tag_key, 'made', 'deleted', 'title', 'followable')
local deleted = fields[2]
if deleted and redis.call('HEXISTS', propagating_key, tag) == 1 then
  return { 'PROPAGATING', 0, links }
end
if fields[1] and not deleted and fields[3] == title and fields[4] == followable then
  return { 'UNCHANGED', 0, links }
end
local id = digits(last + 1)
redis.call('SET', clock_key, id)
local made = not deleted and fields[1] or id
redis.call('HSET', tag_key, 'title', title, 'followable', followable, 'made', made, 'changed', id)
redis.call('HDEL', tag_key, 'deleted')
redis.call('ZADD', tags_key, 0, tag)
put_into_outbox(id .. '-0', 'tag', table.concat({ tag, followable, made, '0', id, title }, '\n'))
finish()
return { 'DONE', tonumber(id), links }
