-- A device comes or goes: its user's devices, his bit, the list of bitmaps that have one, the counts, and the feed.
--
-- KEYS  1 epoch, 2 seen, 3 what device hashes' names start with, 4 what bitmaps' names start with, 5 numbers of the
--       bitmaps there are, 6 counts, 7 channel of the feed
-- ARGV  1 users that share a bitmap, 2 now (ms)

local seen_key, devices_prefix, bitmap_prefix = KEYS[2], KEYS[3], KEYS[4]
local bitmaps_key, counts_key, feed = KEYS[5], KEYS[6], KEYS[7]
local users_per_bitmap, now = tonumber(ARGV[1]), ARGV[2]

if redis.call('EXISTS', KEYS[1]) == 0 then
  return redis.error_reply('EMPTY no epoch')
end

-- The number of a user's bitmap, as digits, and his bit in it.
local function place(uid)
  local number = tonumber(uid)
  local bit = number % users_per_bitmap
  return string.format('%.0f', (number - bit) / users_per_bitmap), bit
end

local function tell(uid, online)
  redis.call('PUBLISH', feed, '{"uid":"' .. uid .. '","online":' .. online .. ',"at":' .. now .. '}')
end

-- Holds the device. Whether its user came online by it.
local function come(uid, clientid, connected_at)
  if redis.call('HSET', devices_prefix .. uid, clientid, connected_at) == 0 then
    return false
  end
  redis.call('HINCRBY', counts_key, 'devices', 1)
  local bitmap, bit = place(uid)
  if redis.call('SETBIT', bitmap_prefix .. bitmap, bit, 1) == 1 then
    return false
  end
  redis.call('SADD', bitmaps_key, bitmap)
  redis.call('HINCRBY', counts_key, 'users', 1)
  tell(uid, 'true')
  return true
end

-- Lets go of a device that is held. Whether its user went offline by it.
local function go(uid, clientid)
  redis.call('HDEL', devices_prefix .. uid, clientid)
  redis.call('ZADD', seen_key, now, uid)
  redis.call('HINCRBY', counts_key, 'devices', -1)
  if redis.call('EXISTS', devices_prefix .. uid) == 1 then
    return false
  end
  local bitmap, bit = place(uid)
  redis.call('SETBIT', bitmap_prefix .. bitmap, bit, 0)
  if redis.call('BITCOUNT', bitmap_prefix .. bitmap) == 0 then
    redis.call('DEL', bitmap_prefix .. bitmap)
    redis.call('SREM', bitmaps_key, bitmap)
  end
  redis.call('HINCRBY', counts_key, 'users', -1)
  tell(uid, 'false')
  return true
end

