-- What has to be known of a user's states before one of them changes. Only the user's shard knows it.
--
-- include states
-- KEYS -
-- ARGV max_marks:count max_settings:count max_blocks:count
-- REPLY -

local MAX_OF = { ['#r'] = max_marks, ['#s'] = max_settings, ['#b'] = max_blocks }

local function count_of(uid, counter)
  return tonumber(redis.call('HGET', states_prefix .. 'v:' .. uid, counter) or 0)
end

-- The oldest of a user's states of which `is_one` says so, `count` of them at most.
local function oldest_of(uid, count, is_one)
  local found, first, page = {}, 0, nil
  repeat
    page = redis.call('ZRANGE', states_prefix .. 'n:' .. uid, first, first + 499, 'WITHSCORES')
    for index = 1, #page, 2 do
      if #found < count and is_one(page[index], page[index + 1]) then
        found[#found + 1] = page[index]
      end
    end
    first = first + 500
  until #found == count or #page < 1000
  return found
end

-- Whether a user may have one more setting, or block, and which have to go for it. Those that are gone count, too, by
-- themselves, but those that changed before `edge` make room.
local function room_for(uid, name, is_known, edge)
  local counter = counter_of(name, '1')
  if count_of(uid, counter) >= MAX_OF[counter] then
    return false, {}
  end
  local gone = counter .. '-'
  if is_known or count_of(uid, gone) < MAX_OF[counter] then
    return true, {}
  end
  local going = oldest_of(uid, MAX_OF[counter], function(each, at)
    return tonumber(at) < edge and counter_of(each, value_of(uid, each)) == gone
  end)
  return #going > 0, going
end

-- Looks at what a state is before it gets this value. Returns `changes`: whether that changes anything; of the highest
-- mark nothing does but a higher one. `at`: the id of its last change ('0': there was none), if nothing changes. `room`:
-- whether the user may have it. `going`: the names of those that go when it is written.
local function look_at(uid, name, value, edge)
  local before = value_of(uid, name)
  local changes = before ~= value
  if is_mark(name) and before then
    changes = tonumber(value) > tonumber(before)
  elseif not before then
    changes = value ~= ''
  end
  if not changes then
    return { changes = false, at = redis.call('ZSCORE', states_prefix .. 'n:' .. uid, name) or '0', room = true, going = {} }
  end
  local room, going = true, {}
  if is_mark(name) then
    if count_of(uid, '#r') + (before and 0 or 1) > max_marks then
      going = oldest_of(uid, 1, function(each) return is_mark(each) and each ~= name end)
    end
  elseif value ~= '' and (not before or before == '') then
    room, going = room_for(uid, name, before, edge)
  end
  return { changes = true, at = '0', room = room, going = going }
end
