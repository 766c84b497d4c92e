#!lua flags=allow-oom
-- Devices connected. Each connection is held beside the others of its clientid until it is told that they are over: the
-- clocks of nodes differ, and events come in any order, so times say which one stands only where they are far apart. One
-- that is over already is not held. Its user is seen, and active if they were dormant or never seen before: from this
-- clock on their inbox is written.
--
-- KEYS  1-7 as in include/presence.lua, 8 clock, 9 dormant, 10 unseen; then per device the remembered end of this
--       connection
-- ARGV  1-2 as in include/presence.lua, 3 milliseconds that are far apart, 4 devices that a user may have (0: any number);
--       then per device: uid, clientid, connected_at (ms), mark of its node
-- Reply { devices that are held by it and were not, users who came online, { uid, clientid, … of the oldest devices of
--       users to whom one came that was too many } }
-- Error EMPTY

-- A device comes or goes: its user's devices, their bit, the list of bitmaps that have one, the counts, and the feed.
--
-- A device is held by its connections, `at:node` or `at:node:over`, joined by commas: when each began by the clock of
-- its node (ms), and the node's mark ('' if it is not known). One that is over stands for another that was not told of yet.
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

-- The number of a user's bitmap, as digits, and their bit in it.
local function place(uid)
  local number = tonumber(uid)
  local bit = number % users_per_bitmap
  return string.format('%.0f', (number - bit) / users_per_bitmap), bit
end

local function tell(uid, online)
  redis.call('PUBLISH', feed, '{"uid":"' .. uid .. '","online":' .. online .. ',"at":' .. now .. '}')
end

-- The connections by which a device is held; none: it is not.
local function connections(uid, clientid)
  local held, found = redis.call('HGET', devices_prefix .. uid, clientid) or '', {}
  for at, node, over in string.gmatch(held, '(%d+):?(%x*):?(%a*)') do
    found[#found + 1] = { at = at, node = node, over = over == 'over' }
  end
  return found
end

local function is_from(connection, node)
  return connection.node == node or connection.node == '' or node == ''
end

-- Those of the connections for which `stays` is true.
local function those(found, stays)
  local staying = {}
  for _, connection in ipairs(found) do
    if stays(connection) then
      staying[#staying + 1] = connection
    end
  end
  return staying
end

-- Holds the device by these connections, one at least. Whether it was not held, and whether its user came online by it.
local function hold(uid, clientid, found)
  local parts = {}
  for index, connection in ipairs(found) do
    parts[index] = connection.at .. ':' .. connection.node .. (connection.over and ':over' or '')
  end
  if redis.call('HSET', devices_prefix .. uid, clientid, table.concat(parts, ',')) == 0 then
    return false, false
  end
  redis.call('HINCRBY', counts_key, 'devices', 1)
  local bitmap, bit = place(uid)
  if redis.call('SETBIT', bitmap_prefix .. bitmap, bit, 1) == 1 then
    return true, false
  end
  redis.call('SADD', bitmaps_key, bitmap)
  redis.call('HINCRBY', counts_key, 'users', 1)
  tell(uid, 'true')
  return true, true
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

local clock_key, dormant_key, unseen_key = KEYS[8], KEYS[9], KEYS[10]
local far, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local FIRST_KEY, FIRST_ARGUMENT = 11, 5

-- Adds to a list the devices that a user has too many, of those that connected longest ago.
local function add_too_many(list, uid, newest)
  local count = redis.call('HLEN', devices_prefix .. uid) - most
  if most == 0 or count <= 0 then
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
return { devices, users, too_many }
