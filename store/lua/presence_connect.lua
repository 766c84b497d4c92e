-- A device connected: it counts if it is newer than what is held for its clientid. Its user is seen, and warm if he
-- was cold: from this clock on his inbox is written again.
--
-- KEYS  1 epoch, 2 the user's devices, 3 bitmap of his chunk, 4 counts, 5 the remembered disconnect of this connection,
--       6 clock, 7 asleep, 8 seen
-- ARGV  1 clientid, 2 connected_at (ms), 3 bit of the user in the chunk, 4 uid, 5 now (ms)
-- Reply 1 the user came online, 0 he was already, or the event changed nothing
-- Error EMPTY

local epoch_key, devices_key, chunk_key, counts_key, gone_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local clock_key, asleep_key, seen_key = KEYS[6], KEYS[7], KEYS[8]
local clientid, connected_at, bit, uid, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if redis.call('EXISTS', epoch_key) == 0 then
  return redis.error_reply('EMPTY no epoch')
end
redis.call('ZADD', seen_key, now, uid)
if redis.call('HGET', asleep_key, uid) == '0' then
  redis.call('HSET', asleep_key, uid, redis.call('GET', clock_key))
end
if redis.call('EXISTS', gone_key) == 1 then
  return 0
end
local held = redis.call('HGET', devices_key, clientid)
if held and tonumber(held) >= tonumber(connected_at) then
  return 0
end
redis.call('HSET', devices_key, clientid, connected_at)
if held then
  return 0
end
redis.call('HINCRBY', counts_key, 'devices', 1)
if redis.call('SETBIT', chunk_key, bit, 1) == 1 then
  return 0
end
redis.call('HINCRBY', counts_key, 'users', 1)
return 1
