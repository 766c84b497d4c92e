#!lua flags=allow-oom
-- Removes one dead letter.
--
-- The reply is 1, or 0 if there was none.
--
-- KEYS dead_letters dead_numbers dead_senders dead_bytes dead_of
-- ARGV number:id sender:text
-- REPLY removed

local size = redis.call('HSTRLEN', dead_letters_key, number)
if redis.call('HDEL', dead_letters_key, number) == 0 then
  return 0
end
redis.call('ZREM', dead_numbers_key, number)
redis.call('LREM', dead_of_key, 1, number)
redis.call('DECRBY', dead_bytes_key, size)
if tonumber(redis.call('ZINCRBY', dead_senders_key, -size, sender)) <= 0 then
  redis.call('ZREM', dead_senders_key, sender)
end
return 1
