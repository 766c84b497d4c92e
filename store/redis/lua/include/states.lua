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
-- KEYS states_prefix
-- ARGV -
-- REPLY -

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

local function forget_state(uid, name)
  local value = value_of(uid, name)
  if value then
    redis.call('HINCRBY', states_prefix .. 'v:' .. uid, counter_of(name, value), -1)
    redis.call('HDEL', states_prefix .. 'v:' .. uid, name)
    redis.call('ZREM', states_prefix .. 'n:' .. uid, name)
  end
end

-- Writes a state as it is from an id (digits) on.
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
end
