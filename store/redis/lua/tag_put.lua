-- Makes a tag, or changes what it is.
--
-- KEYS  1-10 as in include/batch.lua, 11 the tag, 12 tags, 13 propagating
-- ARGV  1-5 as in include/batch.lua, 6 tag, 7 title, 8 followable '1' or '0'
-- Reply id of the change; 0: nothing to change; -1: the tag is being deleted, propagate it first
-- Error EMPTY | BEHIND | OUTBOXFULL

-- include batch
local tag_key, tags_key, propagating_key = KEYS[11], KEYS[12], KEYS[13]
local tag, title, followable = ARGV[6], ARGV[7], ARGV[8]
-- include outbox

local fields = redis.call('HMGET', tag_key, 'made', 'deleted', 'title', 'followable')
local deleted = fields[2]
if deleted and redis.call('HEXISTS', propagating_key, tag) == 1 then
  return -1
end
if fields[1] and not deleted and fields[3] == title and fields[4] == followable then
  return 0
end
local id = digits(last + 1)
redis.call('SET', clock_key, id)
local made = not deleted and fields[1] or id
redis.call('HSET', tag_key, 'title', title, 'followable', followable, 'made', made, 'changed', id)
redis.call('HDEL', tag_key, 'deleted')
redis.call('ZADD', tags_key, 0, tag)
put_into_outbox(id .. '-0', 'tag', table.concat({ tag, followable, made, '0', id, title }, '\n'))
finish()
return tonumber(id)
