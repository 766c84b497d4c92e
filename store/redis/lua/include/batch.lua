-- What a batch of writes of the home begins with, whatever it writes.
--
-- 1. A clock below an id the caller was given: it was restored to an older state, refuse. Outbox and links over their
--    limit: refuse.
-- 2. Ids are given from `last` + 1 on. The script reserves them by writing the clock before anything else.
--
-- `highest_id` is the highest that the caller was given.
--
-- include timelines links
-- KEYS -
-- ARGV outbox_limit:bytes highest_id:us
-- REPLY -
-- ERROR EMPTY BEHIND OUTBOXFULL

if tonumber(state[2] or 0) < highest_id then
  return redis.error_reply('BEHIND the clock is below an id that was given')
end
if tonumber(state[3] or 0) + tonumber(state[6] or 0) >= outbox_limit then
  return redis.error_reply('OUTBOXFULL')
end
local last = math.max(now - 1, tonumber(state[2] or 0))
shards = tonumber(state[5] or 1)
