-- Deletes a tag: from here on nobody holds it. tag_propagate.lua brings that to its holders' maps, and ends it.
--
-- KEYS  1-10 as in include/batch.lua, 11 the tag, 12 tags, 13 propagating, 14 what the names of sets of holders start with,
--       15 likewise of former holders
-- ARGV  1-5 as in include/batch.lua, 6 tag
-- Reply id of the change; -1: an earlier change is being propagated, propagate it first
-- Error EMPTY | BEHIND | OUTBOXFULL | REFUSED unknown_tag

-- include batch
local tag_key, tags_key, propagating_key, holders_prefix, former_prefix = KEYS[11], KEYS[12], KEYS[13], KEYS[14], KEYS[15]
local tag = ARGV[6]
-- include outbox
-- include holding
local fields = redis.call('HMGET', tag_key, 'made', 'deleted', 'title', 'followable')
if not fields[1] or fields[2] then
  return redis.error_reply('REFUSED unknown_tag')
end
if redis.call('HEXISTS', propagating_key, tag) == 1 then
  return -1
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
return tonumber(id)
