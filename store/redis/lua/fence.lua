#!lua flags=allow-oom
-- Lets a shard know another life of the home: entries of earlier ones are refused from now on.
--
-- The reply: the life that counts now, which is a later one if such is known; the id of the newest entry that is applied;
-- the id up to which the shard has everything.
--
-- KEYS applied clock
-- ARGV life:count
-- REPLY life applied clock

local known = redis.call('HMGET', applied_key, 'life', 'id')
local newest = math.max(life, tonumber(known[1] or 1))
redis.call('HSET', applied_key, 'life', string.format('%d', newest))
return { newest, tonumber(known[2] or 0), tonumber(redis.call('GET', clock_key) or 0) }
