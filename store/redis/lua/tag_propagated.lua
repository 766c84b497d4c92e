-- Tells the home how far a change of very many holders is propagated in another shard: what came of one step of
-- `tag_propagate_there.lua`. Telling it twice changes nothing.
--
-- `at`: the id of the change.
--
-- include batch outbox parts tag_rights
-- guarded
-- KEYS -
-- ARGV channel:text shard:count at:id more:flag lines:text (uid:uid granted:flag)...
-- REPLY ok
-- ERROR EMPTY BEHIND OUTBOXFULL

if redis.call('HGET', propagating_key, tag) ~= at then
  return redis.status_reply('OK')
end
local id = digits(last + 1)
redis.call('SET', clock_key, id)
redis.call('HSET', tag_key, 'changed', id)
if lines ~= '' then
  put_into_outbox(id .. '-0', 'holder', tag .. lines)
end
for argument = FIRST_ARGUMENT, #ARGV, 2 do
  permit(channel, ARGV[argument], ARGV[argument + 1] == '1')
end
if more == '0' then
  end_part(shard)
end
finish()
return redis.status_reply('OK')
