#!lua flags=allow-oom
-- Keeps a dead letter within the bounds: so many of one sender, so many bytes in all.
-- Over the first bound the sender's own oldest go; over the second, the oldest of the biggest sender.
--
-- KEYS  1 epoch, 2 counter, 3 letters (hash, number to letter), 4 numbers (sorted set, number by number),
--       5 bytes by sender (sorted set), 6 bytes in all, 7 "tell" mark of this sender;
--       8 start of the keys of the senders' lists
-- ARGV  1 sender, 2 letter, 3 most letters of one sender, 4 most bytes in all, 5 '1' if the store must have an epoch
-- Reply { the letter's number, 1 if the sender has not been told of a refusal in the last second }
-- Error EMPTY

local epoch_key, counter_key, letters_key, numbers_key, senders_key, bytes_key, tell_key, list_prefix =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local sender, letter, most_of_sender, most_bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

if ARGV[5] == '1' and redis.call('EXISTS', epoch_key) == 0 then
  return redis.error_reply('EMPTY no epoch')
end

local function drop_oldest(of)
  local number = redis.call('LPOP', list_prefix .. of)
  if not number then
    redis.call('ZREM', senders_key, of)
    return
  end
  local size = redis.call('HSTRLEN', letters_key, number)
  redis.call('HDEL', letters_key, number)
  redis.call('ZREM', numbers_key, number)
  redis.call('DECRBY', bytes_key, size)
  if tonumber(redis.call('ZINCRBY', senders_key, -size, of)) <= 0 then
    redis.call('ZREM', senders_key, of)
  end
end

local number = redis.call('INCR', counter_key)
redis.call('HSET', letters_key, number, letter)
redis.call('ZADD', numbers_key, number, number)
redis.call('INCRBY', bytes_key, #letter)
redis.call('ZINCRBY', senders_key, #letter, sender)
if redis.call('RPUSH', list_prefix .. sender, number) > most_of_sender then
  drop_oldest(sender)
end
while tonumber(redis.call('GET', bytes_key)) > most_bytes do
  drop_oldest(redis.call('ZREVRANGE', senders_key, 0, 0)[1])
end
local tell = redis.call('SET', tell_key, '1', 'NX', 'EX', 1)
return { number, tell and 1 or 0 }
