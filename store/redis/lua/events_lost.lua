#!lua flags=allow-oom
-- Counts events that were lost with the Redis they lay in, once for all processes that notice.
--
-- `state` names the counts that the caller knew before, `new_state` those from here on.
--
-- KEYS event_counts
-- ARGV state:text new_state:text lost:count
-- REPLY is_first

if redis.call('HGET', event_counts_key, 'counted') == state then
  return 0
end
redis.call('HSET', event_counts_key, 'counted', state, 'state', new_state)
redis.call('HINCRBY', event_counts_key, 'lost', lost)
return 1
