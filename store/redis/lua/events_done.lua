#!lua flags=allow-oom
-- Takes events that were delivered out of their queues. `queue` is 'users' for those of presence.
--
-- The reply is how many they were; those that are gone already are not counted.
--
-- include event_queues
-- KEYS events events_of_users event_counts
-- ARGV (queue:text entry:text)...
-- REPLY sent

local sent, freed = 0, 0
for argument = FIRST_ARGUMENT, #ARGV, 2 do
  local queue_key = ARGV[argument] == 'users' and events_of_users_key or events_key
  local id = ARGV[argument + 1]
  local entry = redis.call('XRANGE', queue_key, id, id)[1]
  if entry then
    local _, number, bytes = remove_events(queue_key, entry)
    sent, freed = sent + number, freed + bytes
  end
end
if sent > 0 then
  redis.call('HINCRBY', event_counts_key, 'bytes', -freed)
  redis.call('HINCRBY', event_counts_key, 'sent', sent)
end
return sent
