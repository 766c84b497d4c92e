-- A device comes or goes: its user's devices, their bit, the list of bitmaps that have one, the counts, the feed, and the
-- events that are asked for.
--
-- A device is held by its connections, `at:node` or `at:node:over`, joined by commas: when each began by the clock of
-- its node (ms), and the node's mark ('' if it is not known). One that is over stands for another that was not told of
-- yet.
--
-- include events
-- KEYS epoch seen devices_prefix bitmap_prefix bitmaps presence presence_feed
-- ARGV users_per_bitmap:count now:ms
-- REPLY -
-- ERROR EMPTY

if redis.call('EXISTS', epoch_key) == 0 then
  return redis.error_reply('EMPTY no epoch')
end

-- The number of a user's bitmap, as digits, and their bit in it.
local function place(uid)
  local number = tonumber(uid)
  local bit = number % users_per_bitmap
  return string.format('%.0f', (number - bit) / users_per_bitmap), bit
end

-- Events of one kind that follow each other, to be put into the queue together.
local changes = {}

local function put_changes()
  put_events(events_of_users_key, changes.kind, changes)
  changes = {}
end

local function tell(uid, online)
  local at = string.format('%.0f', now)
  redis.call('PUBLISH', presence_feed_key, '{"uid":"' .. uid .. '","online":' .. online .. ',"at":' .. at .. '}')
  local kind = online == 'true' and 'user.online' or 'user.offline'
  if is_asked_for(kind) then
    if changes.kind ~= kind then
      put_changes()
      changes.kind = kind
    end
    changes[#changes + 1] = at .. ' ' .. uid
  end
end

-- Puts what was told into the queue.
local function finish_presence()
  put_changes()
  finish_events()
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
  redis.call('HINCRBY', presence_key, 'devices', 1)
  local bitmap, bit = place(uid)
  if redis.call('SETBIT', bitmap_prefix .. bitmap, bit, 1) == 1 then
    return true, false
  end
  redis.call('SADD', bitmaps_key, bitmap)
  redis.call('HINCRBY', presence_key, 'users', 1)
  tell(uid, 'true')
  return true, true
end

-- Lets go of a device that is held. Whether its user went offline by it.
local function go(uid, clientid)
  redis.call('HDEL', devices_prefix .. uid, clientid)
  redis.call('ZADD', seen_key, now, uid)
  redis.call('HINCRBY', presence_key, 'devices', -1)
  if redis.call('EXISTS', devices_prefix .. uid) == 1 then
    return false
  end
  local bitmap, bit = place(uid)
  redis.call('SETBIT', bitmap_prefix .. bitmap, bit, 0)
  if redis.call('BITCOUNT', bitmap_prefix .. bitmap) == 0 then
    redis.call('DEL', bitmap_prefix .. bitmap)
    redis.call('SREM', bitmaps_key, bitmap)
  end
  redis.call('HINCRBY', presence_key, 'users', -1)
  tell(uid, 'false')
  return true
end

