-- Replaces all users who hold a tag by their profile: from here on the staged ones do, all at one id. tag_propagate.lua
-- brings that to their maps.
--
-- `count` users were staged. The reply has the id of the change. PROPAGATING: an earlier change is being propagated,
-- propagate it first.
--
-- include batch one_shard outbox
-- guarded
-- KEYS tag propagating holders former staged staged_pages pages
-- ARGV tag:text count:count
-- REPLY outcome=DONE|PROPAGATING id
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED FAILED

local fields = redis.call('HMGET', tag_key, 'made', 'deleted')
if not fields[1] or fields[2] then
  return redis.error_reply('REFUSED unknown_tag')
end
if redis.call('HEXISTS', propagating_key, tag) == 1 then
  return { 'PROPAGATING', 0 }
end
if redis.call('SCARD', staged_key) ~= count then
  return redis.error_reply('FAILED what was uploaded is not there any more')
end
local id = digits(last + 1)
redis.call('SET', clock_key, id)
if redis.call('EXISTS', holders_key) == 1 then
  redis.call('RENAME', holders_key, former_key)
end
if count > 0 then
  redis.call('RENAME', staged_key, holders_key)
  redis.call('PERSIST', holders_key)
  redis.call('RENAME', staged_pages_key, pages_key)
  redis.call('PERSIST', pages_key)
end
redis.call('HSET', tag_key, 'changed', id)
redis.call('HSET', propagating_key, tag, id)
return { 'DONE', tonumber(id) }
