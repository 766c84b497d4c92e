-- A user's states: read marks, settings and blocks. Only the newest value of each counts.
--
-- A state has a name: `r:` and the topic of a conversation that the user has read up to an id; `p:` and the uid of
-- somebody who has read what the user wrote to them; `s:` and the key of a setting; `b:` and the uid of somebody whom the
-- user blocks. Its value is an id, JSON, or '1'; '' says that it is gone, as a device that was away has to be told. All
-- names lie in one sorted set, by the id of their newest change.
--
-- The values lie in a hash, which also counts the names of each sort: `#r` the read marks, `#s` and `#b` settings and
-- blocks that are there, `#s-` and `#b-` those that are gone.
--
-- KEYS states_prefix blocks_prefix
-- ARGV max_marks:count max_settings:count max_blocks:count
-- REPLY -

local MAX_OF = { ['#r'] = max_marks, ['#s'] = max_settings, ['#b'] = max_blocks }

local function is_mark(name)
  local kind = string.byte(name)
  return kind == 114 or kind == 112
end

-- The field that counts such a state.
local function counter_of(name, value)
  return is_mark(name) and '#r' or '#' .. string.sub(name, 1, 1) .. (value == '' and '-' or '')
end

local function value_of(uid, name)
  return redis.call('HGET', states_prefix .. 'v:' .. uid, name)
end

local function count_of(uid, counter)
  return tonumber(redis.call('HGET', states_prefix .. 'v:' .. uid, counter) or 0)
end

-- Forgets the oldest of a user's states for which `goes` says so, `count` of them at most. Returns their names.
local function forget_oldest(uid, count, goes)
  local found, first, page = {}, 0, nil
  repeat
    page = redis.call('ZRANGE', states_prefix .. 'n:' .. uid, first, first + 499, 'WITHSCORES')
    for index = 1, #page, 2 do
      if #found < count and goes(page[index], page[index + 1]) then
        found[#found + 1] = page[index]
      end
    end
    first = first + 500
  until #found == count or #page < 1000
  for _, name in ipairs(found) do
    redis.call('HINCRBY', states_prefix .. 'v:' .. uid, counter_of(name, value_of(uid, name)), -1)
    redis.call('HDEL', states_prefix .. 'v:' .. uid, name)
    redis.call('ZREM', states_prefix .. 'n:' .. uid, name)
  end
  return found
end

-- Whether a user may have one more of a sort. Those that are gone count, too, by themselves, but those that changed before
-- `edge` make room.
local function has_room(uid, name, edge)
  local counter = counter_of(name, '1')
  if count_of(uid, counter) >= MAX_OF[counter] then
    return false
  end
  local gone = counter .. '-'
  if value_of(uid, name) or count_of(uid, gone) < MAX_OF[counter] then
    return true
  end
  return #forget_oldest(uid, MAX_OF[counter], function(each, at)
    return counter_of(each, value_of(uid, each)) == gone and tonumber(at) < edge
  end) > 0
end

-- Writes a state as it is from an id (digits) on. Returns the names of read marks that had to go for it.
local function write_state(uid, name, at, value)
  local values = states_prefix .. 'v:' .. uid
  local before, counter = value_of(uid, name), counter_of(name, value)
  local counted = before and counter_of(name, before)
  if counted ~= counter then
    if counted then
      redis.call('HINCRBY', values, counted, -1)
    end
    redis.call('HINCRBY', values, counter, 1)
  end
  redis.call('HSET', values, name, value)
  redis.call('ZADD', states_prefix .. 'n:' .. uid, at, name)
  if tonumber(redis.call('GET', states_prefix .. 'h:' .. uid) or 0) < tonumber(at) then
    redis.call('SET', states_prefix .. 'h:' .. uid, at)
  end
  local blocked = string.match(name, '^b:(%d+)$')
  if blocked and value ~= '' then
    redis.call('SADD', blocks_prefix .. uid, blocked)
    redis.call('SADD', blocks_prefix, uid)
  elseif blocked and redis.call('SREM', blocks_prefix .. uid, blocked) == 1 then
    if redis.call('EXISTS', blocks_prefix .. uid) == 0 then
      redis.call('SREM', blocks_prefix, uid)
    end
  end
  if counter == '#r' and count_of(uid, counter) > max_marks then
    return forget_oldest(uid, 1, is_mark)
  end
  return {}
end
