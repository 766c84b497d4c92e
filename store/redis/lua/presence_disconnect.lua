#!lua flags=allow-oom
-- Connections are over: by a disconnect, by a will (of the same node, if they are clearly older), or because the broker
-- does not list them. After a takeover another connection stands: if none is held, this one stands for it until it is
-- told of. Disconnects and takeovers are remembered: the connect may come later where it is not held, and a list of
-- clients that was begun before may still name it.
--
-- KEYS  1-7 as in include/presence.lua; for disconnects and takeovers then per device the key that remembers it
-- ARGV  1-2 as in include/presence.lua, 3 'disconnect', 'takeover', 'will' or 'unlisted',
--       4 seconds to remember one that is not held, 5 one that is, 6 milliseconds by which a connection must be older
--       than its will; then per device: uid, clientid, connected_at or the will's publish_received_at (ms), mark of the
--       node
-- Reply { devices that were let go, users who went offline }
-- Error EMPTY

-- include presence
local kind, remember_unheld, remember_held, older = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local FIRST_KEY, FIRST_ARGUMENT = 8, 7

local devices, users = 0, 0
for index = 0, (#ARGV - FIRST_ARGUMENT - 3) / 4 do
  local argument = FIRST_ARGUMENT + 4 * index
  local uid, clientid, moment, node = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
  local held = connections(uid, clientid)
  local function is_told_of(connection)
    if kind == 'will' then
      -- Without its node nobody knows what clock it was.
      return connection.node == node and not connection.over and tonumber(connection.at) + older < tonumber(moment)
    end
    return connection.at == moment and is_from(connection, node)
  end
  local others = those(held, function(connection)
    return not is_told_of(connection)
  end)
  local counts = #others < #held
  if kind == 'disconnect' or kind == 'takeover' then
    redis.call('SET', KEYS[FIRST_KEY + index], '1', 'EX', counts and remember_held or remember_unheld)
  end
  if counts then
    local standing = others
    if kind == 'takeover' then
      standing = those(others, function(connection)
        return not connection.over
      end)
      if #standing == 0 then
        standing = { { at = moment, node = node, over = true } }
      end
    end
    if #standing > 0 then
      hold(uid, clientid, standing)
    else
      devices = devices + 1
      users = users + (go(uid, clientid) and 1 or 0)
    end
  end
end
return { devices, users }
