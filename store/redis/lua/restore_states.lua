-- Puts archived states of users back, unless what Redis holds is newer. Doing it twice changes nothing.
--
-- Per state: the user, its name, the id of its change, and its value.
--
-- include states
-- KEYS -
-- ARGV (uid:uid name:text at:id value:text)...
-- REPLY ok

for argument = FIRST_ARGUMENT, #ARGV, 4 do
  local uid, name, at, value = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
  local known = redis.call('ZSCORE', states_prefix .. 'n:' .. uid, name)
  if not known or tonumber(known) < tonumber(at) then
    write_state(uid, name, at, value)
  end
end
return redis.status_reply('OK')
