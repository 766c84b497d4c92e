#!lua flags=allow-oom
-- Makes users dormant who were not seen for long and have no device online: their inboxes go, and appends skip them.
--
-- KEYS  1 epoch, 2 seen, 3 dormant; 4 what inboxes' names start with, 5 what device hashes' names start with
-- ARGV  1 not seen since (ms), 2 now (ms), 3 most users to look at
-- Reply { users looked at, made dormant, messages freed, bytes freed }
-- Error EMPTY

local epoch_key, seen_key, dormant_key, inbox_prefix, devices_prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local since, now, most = ARGV[1], ARGV[2], ARGV[3]

if redis.call('EXISTS', epoch_key) == 0 then
  return redis.error_reply('EMPTY no epoch')
end
local uids = redis.call('ZRANGEBYSCORE', seen_key, '-inf', '(' .. since, 'LIMIT', 0, most)
local dormant, messages, bytes = 0, 0, 0
for _, uid in ipairs(uids) do
  if redis.call('EXISTS', devices_prefix .. uid) == 1 then
    redis.call('ZADD', seen_key, now, uid)
  else
    local inbox = inbox_prefix .. uid
    messages = messages + redis.call('ZCARD', inbox)
    bytes = bytes + (redis.call('MEMORY', 'USAGE', inbox) or 0)
    redis.call('UNLINK', inbox)
    redis.call('HSET', dormant_key, uid, '0')
    redis.call('ZREM', seen_key, uid)
    dormant = dormant + 1
  end
end
return { #uids, dormant, messages, bytes }
