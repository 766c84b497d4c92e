-- Propagates one step of a change of very many holders to the users' maps, in a shard beside the home.
--
-- What the home has to be told of it is kept until it is said that it was: `told` is the number under which it was given.
-- Until then it is given again, and nothing else is done.
--
-- `home_at`: the id of the change that the home believes to be under way here. If it was applied, and there is nothing of it
-- to do, the home has lost what it was told, and is told once more that it is over.
--
-- The reply: 1 if there is more to do; users looked at; users whose map was changed; the number, '' if there is nothing
-- to be told; the id of the change; the lines for the archive, as they are from the shard's clock on; uid and 1 or 0 of each user
-- who is online and gained or lost the tag.
--
-- include timelines propagating
-- guarded
-- KEYS propagating lines wakeups
-- ARGV told:text home_at:id
-- REPLY more looked changed number at lines permissions
-- ERROR EMPTY

local untold = redis.call('GET', lines_key)
if untold then
  local step = cmsgpack.unpack(untold)
  if step[4] ~= told then
    return step
  end
  redis.call('DEL', lines_key)
end
local at = redis.call('HGET', propagating_key, tag)
if not at then
  local over = tonumber(home_at) > 0 and tonumber(state[2] or 0) >= tonumber(home_at)
  return { 0, 0, 0, over and 'over' or '', home_at, '', {} }
end

local permissions = {}
local more, changed = propagate(at, function(uid, held)
  permissions[#permissions + 1] = uid
  permissions[#permissions + 1] = held and '1' or '0'
end)
local lines = finish_holders(string.format('%d', tonumber(state[2] or 0)))
local step = { more and 1 or 0, looked, changed, '', at, lines, permissions }
if lines ~= '' or not more then
  step[4] = at .. ':' .. redis.call('HINCRBY', tag_key, 'steps', 1)
  redis.call('SET', lines_key, cmsgpack.pack(step))
end
if not more then
  redis.call('HDEL', propagating_key, tag)
end
if #brought > 0 then
  redis.call('SPUBLISH', wakeups_key, table.concat(brought, ' '))
end
return step
