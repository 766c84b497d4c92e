#!lua flags=allow-oom
-- Connections are over: by a disconnect (its connected_at must be the one held), by a will (the one held must be older), or
-- because the broker does not list them (as for a disconnect); a takeover lets go of nothing, as another connection stands.
-- Disconnects and takeovers are remembered: the connect may come later where it is not held, and a list of clients that
-- was begun before may still name it.
--
-- KEYS  1-7 as in include/presence.lua; for disconnects and takeovers then per device the key that remembers it
-- ARGV  1-2 as in include/presence.lua, 3 'disconnect', 'takeover', 'will' or 'unlisted', 4 seconds to remember one that is not held,
--       5 one that is; then per device: uid, clientid, connected_at, or publish_received_at of the will (ms)
-- Reply { devices that were let go, users who went offline }
-- Error EMPTY

-- include presence
local kind, remember_unheld, remember_held = ARGV[3], ARGV[4], ARGV[5]
local FIRST_KEY, FIRST_ARGUMENT = 8, 6

local devices, users = 0, 0
for index = 0, (#ARGV - FIRST_ARGUMENT - 2) / 3 do
  local argument = FIRST_ARGUMENT + 3 * index
  local uid, clientid, moment = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2]
  local held = redis.call('HGET', devices_prefix .. uid, clientid)
  local counts = held == moment
  if kind == 'will' then
    counts = held and tonumber(held) < tonumber(moment)
  elseif kind ~= 'unlisted' then
    redis.call('SET', KEYS[FIRST_KEY + index], '1', 'EX', counts and remember_held or remember_unheld)
  end
  if counts and kind ~= 'takeover' then
    devices = devices + 1
    users = users + (go(uid, clientid) and 1 or 0)
  end
end
return { devices, users }
