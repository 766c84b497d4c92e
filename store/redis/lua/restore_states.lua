-- Puts archived states of users back, unless what Redis holds is newer. Doing it twice changes nothing.
--
-- Their timelines lie here if it is their shard (`is_theirs`); who blocks whom does if it is the home (`is_home`). Per
-- state: the user, its name, the id of its change, and its value.
--
-- include states blocks
-- KEYS -
-- ARGV is_theirs:flag is_home:flag (uid:uid name:text at:id value:text)...
-- REPLY ok

for argument = FIRST_ARGUMENT, #ARGV, 4 do
  local uid, name, at, value = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
  local known = is_theirs == '1' and redis.call('ZSCORE', states_prefix .. 'n:' .. uid, name)
  if not known or tonumber(known) < tonumber(at) then
    if is_theirs == '1' then
      write_state(uid, name, at, value)
    end
    if is_home == '1' then
      note_block(uid, name, value)
    end
  end
end
return redis.status_reply('OK')
