-- Refuses where there are several shards: what the script writes for a user would not reach the user's shard.
--
-- include batch
-- KEYS -
-- ARGV -
-- REPLY -
-- ERROR EMPTY BEHIND OUTBOXFULL FAILED

if shards > 1 then
  return redis.error_reply('FAILED this does not work on several shards')
end
