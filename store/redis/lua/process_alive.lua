-- Notes that a process works on the store; forgets those that have not said so for long, and says which ones have, and when.
--
-- A process without a name only asks.
--
-- KEYS processes
-- ARGV name:text silence:ms
-- REPLY names_and_times

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', processes_key, '-inf', now - silence)
if name ~= '' then
  redis.call('ZADD', processes_key, now, name)
end
return redis.call('ZRANGE', processes_key, 0, -1, 'WITHSCORES')
