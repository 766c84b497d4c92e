-- A device is gone, by a disconnect event (its connected_at must be the one held) or by a will (the one held must be
-- older). A disconnect that is not held is remembered, as its connect may come later.
--
-- KEYS  1 epoch, 2 the user's devices, 3 bitmap of his chunk, 4 counts, 5 the remembered disconnect ('' for a will),
--       6 seen
-- ARGV  1 clientid, 2 connected_at of the disconnect, or publish_received_at of the will (ms),
--       3 bit of the user in the chunk, 4 seconds to remember, 5 'disconnect' or 'will', 6 uid, 7 now (ms)
-- Reply 1 the user went offline, 0 he did not
-- Error EMPTY

local epoch_key, devices_key, chunk_key, counts_key, gone_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local seen_key = KEYS[6]
local clientid, moment, bit, remember_seconds, kind = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local uid, now = ARGV[6], ARGV[7]

if redis.call('EXISTS', epoch_key) == 0 then
  return redis.error_reply('EMPTY no epoch')
end
local held = redis.call('HGET', devices_key, clientid)
if kind == 'will' then
  if not held or tonumber(held) >= tonumber(moment) then
    return 0
  end
elseif held ~= moment then
  redis.call('SET', gone_key, '1', 'EX', remember_seconds)
  return 0
end
redis.call('HDEL', devices_key, clientid)
redis.call('ZADD', seen_key, now, uid)
redis.call('HINCRBY', counts_key, 'devices', -1)
if redis.call('EXISTS', devices_key) == 1 then
  return 0
end
redis.call('SETBIT', chunk_key, bit, 0)
redis.call('HINCRBY', counts_key, 'users', -1)
return 1
