#!lua flags=allow-oom
-- Devices connected. Each connection is held beside the others of its clientid until it is told that they are over: the
-- clocks of nodes differ, and events come in any order, so times say which one stands only where they are far apart.
-- One that is over already is not held. Its user is seen, and active if they were dormant or never seen before: from
-- this clock on their inbox is written.
--
-- Times that differ by `far` are far apart. A user may have `max_devices` devices (0: any number). Per device there is the key
-- of the remembered end of this connection, and its uid, clientid, connected_at and the mark of its node.
--
-- The reply: devices that are held by it and were not; users who came online; { uid, clientid, … of the oldest devices
-- of users to whom one came that was too many }.
--
-- include presence
-- KEYS clock dormant unseen (gone)...
-- ARGV far:ms max_devices:count (uid:uid clientid:text connected_at:ms node:text)...
-- REPLY devices users too_many
-- ERROR EMPTY

-- Adds to a list the devices that a user has too many, of those that connected longest ago.
local function add_too_many(list, uid, newest)
  local count = redis.call('HLEN', devices_prefix .. uid) - max_devices
  if max_devices == 0 or count <= 0 then
    return
  end
  local others = {}
  local held = redis.call('HGETALL', devices_prefix .. uid)
  for place = 1, #held, 2 do
    if held[place] ~= newest then
      others[#others + 1] = { held[place], tonumber(string.match(held[place + 1], '%d+')) }
    end
  end
  table.sort(others, function(one, other) return one[2] < other[2] end)
  for place = 1, math.min(count, #others) do
    list[#list + 1] = uid
    list[#list + 1] = others[place][1]
  end
end

local devices, users, too_many = 0, 0, {}
for index = 0, #KEYS - FIRST_KEY do
  local argument = FIRST_ARGUMENT + 4 * index
  local uid, clientid, at, node = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
  local held = connections(uid, clientid)
  local known, old = false, false
  for _, connection in ipairs(held) do
    if connection.at == at and is_from(connection, node) then
      known = true
      if connection.node ~= node and node ~= '' then
        connection.node = node
        hold(uid, clientid, held)
      end
    end
    old = old or tonumber(connection.at) > tonumber(at) + far
  end
  if not known and not old then
    local first = redis.call('ZADD', seen_key, now, uid) == 1
    if redis.call('HGET', dormant_key, uid) == '0' or first and redis.call('ZREM', unseen_key, uid) == 1 then
      redis.call('HSET', dormant_key, uid, redis.call('GET', clock_key))
    end
    local standing = those(held, function(connection)
      return not connection.over and tonumber(connection.at) >= tonumber(at) - far
    end)
    if redis.call('EXISTS', KEYS[FIRST_KEY + index]) == 0 then
      standing[#standing + 1] = { at = at, node = node }
    end
    if #standing > 0 then
      local came, came_online = hold(uid, clientid, standing)
      devices = devices + (came and 1 or 0)
      users = users + (came_online and 1 or 0)
      if came then
        add_too_many(too_many, uid, clientid)
      end
    elseif #held > 0 then
      go(uid, clientid)
    end
  end
end
finish_presence()
return { devices, users, too_many }
