#!lua flags=allow-oom
-- Devices connected: each counts if it is newer than what is held for its clientid. One that is over already is not held,
-- and nothing older is either. Its user is seen, and warm if he was cold: from this clock on his inbox is written again.
--
-- KEYS  1-7 as in include/presence.lua, 8 clock, 9 asleep; then per device the remembered disconnect of this connection
-- ARGV  1-2 as in include/presence.lua; then per device: uid, clientid, connected_at (ms)
-- Reply { devices that are held by it and were not, users who came online }
-- Error EMPTY

-- include presence
local clock_key, asleep_key = KEYS[8], KEYS[9]
local FIRST_KEY, FIRST_ARGUMENT = 10, 3

local devices, users = 0, 0
for index = 0, #KEYS - FIRST_KEY do
  local argument = FIRST_ARGUMENT + 3 * index
  local uid, clientid, connected_at = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2]
  local held = redis.call('HGET', devices_prefix .. uid, clientid)
  if not held or tonumber(held) < tonumber(connected_at) then
    redis.call('ZADD', seen_key, now, uid)
    if redis.call('HGET', asleep_key, uid) == '0' then
      redis.call('HSET', asleep_key, uid, redis.call('GET', clock_key))
    end
    if redis.call('EXISTS', KEYS[FIRST_KEY + index]) == 0 then
      devices = devices + (held and 0 or 1)
      users = users + (come(uid, clientid, connected_at) and 1 or 0)
    elseif held then
      go(uid, clientid)
    end
  end
end
return { devices, users }
