-- Replaces all users who hold a tag by their profile: from here on the staged ones do, all at one id. tag_propagate.lua
-- brings that to their maps.
--
-- KEYS  1-10 as in include/batch.lua, 11 the tag, 12 propagating, 13 profile holders, 14 former profile holders,
--       15 staged users, 16 the same in pages, 17 pages of the tag
-- ARGV  1-5 as in include/batch.lua, 6 tag, 7 how many were staged
-- Reply id of the change; -1: an earlier change is being propagated, propagate it first
-- Error EMPTY | BEHIND | OUTBOXFULL | REFUSED unknown_tag | FAILED <text>

-- include batch
local tag_key, propagating_key, profile_key, former_key, staged_key, staged_pages_key, pages_key =
  KEYS[11], KEYS[12], KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17]
local tag, count = ARGV[6], tonumber(ARGV[7])
-- include outbox

local fields = redis.call('HMGET', tag_key, 'made', 'deleted')
if not fields[1] or fields[2] then
  return redis.error_reply('REFUSED unknown_tag')
end
if redis.call('HEXISTS', propagating_key, tag) == 1 then
  return -1
end
if redis.call('SCARD', staged_key) ~= count then
  return redis.error_reply('FAILED what was uploaded is not there any more')
end
local id = digits(last + 1)
redis.call('SET', clock_key, id)
if redis.call('EXISTS', profile_key) == 1 then
  redis.call('RENAME', profile_key, former_key)
end
if count > 0 then
  redis.call('RENAME', staged_key, profile_key)
  redis.call('PERSIST', profile_key)
  redis.call('RENAME', staged_pages_key, pages_key)
  redis.call('PERSIST', pages_key)
end
redis.call('HSET', tag_key, 'changed', id)
redis.call('HSET', propagating_key, tag, id)
return tonumber(id)
