#!lua flags=allow-oom
-- Connections are over: by a disconnect, by a will (of the same node, if they are clearly older), or because the broker
-- does not list them. After a takeover another connection stands: if none is held, this one stands for it until it is
-- told of. Disconnects and takeovers are remembered: the connect may come later where it is not held, and a list of
-- clients that was begun before may still name it.
--
-- `kind` is 'disconnect', 'takeover', 'will' or 'unlisted'. A connection that is held is remembered for
-- `remember_held`, else for `remember_unheld`; it must be older than its will by `older`. Disconnects and takeovers
-- come with the key that remembers each. Per device: uid, clientid, connected_at or the will's publish_received_at, the
-- mark of the node.
--
-- The reply: devices that were let go; users who went offline.
--
-- include presence
-- KEYS (gone)...
-- ARGV kind:text remember_unheld:s remember_held:s older:ms (uid:uid clientid:text moment:ms node:text)...
-- REPLY devices users
-- ERROR EMPTY

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
finish_presence()
return { devices, users }
