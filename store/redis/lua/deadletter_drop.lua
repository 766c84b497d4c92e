#!lua flags=allow-oom
-- Removes one dead letter.
--
-- KEYS  1 letters, 2 numbers, 3 bytes by sender, 4 bytes in all, 5 the sender's list
-- ARGV  1 number, 2 sender
-- Reply 1 removed, 0 there was none

local letters_key, numbers_key, senders_key, bytes_key, list_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local number, sender = ARGV[1], ARGV[2]

local size = redis.call('HSTRLEN', letters_key, number)
if redis.call('HDEL', letters_key, number) == 0 then
  return 0
end
redis.call('ZREM', numbers_key, number)
redis.call('LREM', list_key, 1, number)
redis.call('DECRBY', bytes_key, size)
if tonumber(redis.call('ZINCRBY', senders_key, -size, sender)) <= 0 then
  redis.call('ZREM', senders_key, sender)
end
return 1
