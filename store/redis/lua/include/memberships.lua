-- Ending memberships of a group, whatever the reason.
--
-- include outbox
-- KEYS members kicked permissions read_groups user_groups channel_map_prefix
-- ARGV gid:gid channel:text topic:text actor:text
-- REPLY -

-- One group more, or less, among those that a hash counts.
local function count_group(counts_key, uid, count)
  if redis.call('HINCRBY', counts_key, uid, count) <= 0 then
    redis.call('HDEL', counts_key, uid)
  end
end

local function permit(uid, granted)
  redis.call('XADD', permissions_key, '*', 'a', actor, 'u', uid, 't', topic, 'g', granted)
end

-- Ends memberships at an id (digits). joined: uid to the id at which they joined. mode: of the group.
local function end_memberships(leaving, joined, at, mode, kicked, entry_id)
  local parts = { gid, at, kicked and '1' or '0' }
  for _, uid in ipairs(leaving) do
    local map = channel_map_prefix .. uid
    redis.call('HSET', map, channel, (redis.call('HGET', map, channel) or joined[uid] .. ':') .. at)
    redis.call('ZREM', members_key, uid)
    if kicked then
      redis.call('SADD', kicked_key, uid)
    end
    count_group(user_groups_key, uid, -1)
    if mode == 'read' then
      count_group(read_groups_key, uid, -1)
    end
    permit(uid, '0')
    news[#news + 1] = uid
    parts[#parts + 1] = uid .. ':' .. joined[uid]
  end
  put_into_outbox(entry_id, 'member', table.concat(parts, '\n'))
end

-- Ends the first thousand memberships of a dismissed group, at the id it ended with; how many are left.
local function end_some(at, mode, entry_id)
  local page = redis.call('ZRANGE', members_key, 0, 999, 'WITHSCORES')
  local leaving, joined = {}, {}
  for index = 1, #page, 2 do
    leaving[#leaving + 1] = page[index]
    joined[page[index]] = page[index + 1]
  end
  if #leaving > 0 then
    end_memberships(leaving, joined, at, mode, false, entry_id)
  end
  return redis.call('ZCARD', members_key)
end

