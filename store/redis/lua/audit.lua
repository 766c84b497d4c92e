-- Writes down what an operator did: into the outbox alone, as nothing in Redis depends on it.
--
-- The reply has the id of the entry.
--
-- include batch outbox
-- guarded
-- KEYS -
-- ARGV entry:text
-- REPLY id
-- ERROR EMPTY BEHIND OUTBOXFULL

local id = digits(last + 1)
redis.call('SET', clock_key, id)
put_into_outbox(id .. '-0', 'audit', id .. '\n' .. entry)
finish()
return tonumber(id)
