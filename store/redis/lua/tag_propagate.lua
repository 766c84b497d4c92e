-- Propagates one step of a change of very many holders to the users' maps, in the home.
--
-- The archive gets a thousand of them in one entry. Only users who are online are put on the list of permissions.
--
-- The reply: 1 if there is more to do; users looked at; users whose map was changed.
--
-- include batch outbox propagating parts tag_rights
-- guarded
-- KEYS propagating lines
-- ARGV -
-- REPLY more looked changed
-- ERROR EMPTY BEHIND OUTBOXFULL

local MAX_LINES = 1000
local at = redis.call('HGET', propagating_key, tag)
if not at then
  return { 0, 0, 0 }
end

local id = digits(last + 1)
redis.call('SET', clock_key, id)
local more, changed = propagate(at, function(uid, held)
  permit(channel, uid, held)
end)
local lines, waiting = finish_holders(id), 0
redis.call('HSET', tag_key, 'changed', id)
if lines ~= '' then
  redis.call('APPEND', lines_key, lines)
  waiting = redis.call('HINCRBY', tag_key, 'waiting', #rows)
end
if waiting >= MAX_LINES or not more and redis.call('EXISTS', lines_key) == 1 then
  put_into_outbox(id .. '-0', 'holder', tag .. redis.call('GET', lines_key))
  redis.call('DEL', lines_key)
  redis.call('HDEL', tag_key, 'waiting')
end
if not more then
  end_part(0)
end
to_wake = brought
finish()
return { more and 1 or 0, looked, changed }
