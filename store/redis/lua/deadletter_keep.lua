#!lua flags=allow-oom
-- Keeps a dead letter within the bounds: so many of one sender, so many bytes in all.
-- Over the first bound the sender's own oldest go; over the second, the oldest of the biggest sender. It is told by an
-- event, if that is asked for.
--
-- `needs_epoch` is '1' if the store must have an epoch. `tell` is 1 if the sender has not been told of a refusal in the
-- last second.
--
-- include events
-- KEYS epoch dead_counter dead_letters dead_numbers dead_senders dead_bytes dead_told dead_of_prefix
-- ARGV sender:text letter:text max_of_sender:count max_bytes:bytes needs_epoch:flag
-- REPLY number tell
-- ERROR EMPTY

if needs_epoch == '1' and redis.call('EXISTS', epoch_key) == 0 then
  return redis.error_reply('EMPTY no epoch')
end

local function drop_oldest(of)
  local number = redis.call('LPOP', dead_of_prefix .. of)
  if not number then
    redis.call('ZREM', dead_senders_key, of)
    return
  end
  local size = redis.call('HSTRLEN', dead_letters_key, number)
  redis.call('HDEL', dead_letters_key, number)
  redis.call('ZREM', dead_numbers_key, number)
  redis.call('DECRBY', dead_bytes_key, size)
  if tonumber(redis.call('ZINCRBY', dead_senders_key, -size, of)) <= 0 then
    redis.call('ZREM', dead_senders_key, of)
  end
end

local number = redis.call('INCR', dead_counter_key)
redis.call('HSET', dead_letters_key, number, letter)
redis.call('ZADD', dead_numbers_key, number, number)
redis.call('INCRBY', dead_bytes_key, #letter)
redis.call('ZINCRBY', dead_senders_key, #letter, sender)
if redis.call('RPUSH', dead_of_prefix .. sender, number) > max_of_sender then
  drop_oldest(sender)
end
while tonumber(redis.call('GET', dead_bytes_key)) > max_bytes do
  drop_oldest(redis.call('ZREVRANGE', dead_senders_key, 0, 0)[1])
end
if is_asked_for('message.refused') then
  put_events(events_key, 'message.refused', { number .. '\n' .. letter })
  finish_events()
end
local tell = redis.call('SET', dead_told_key, '1', 'NX', 'EX', 1)
return { number, tell and 1 or 0 }
