-- Beginning and ending memberships of a group, whatever the reason.
--
-- include outbox links intervals
-- KEYS members kicked permissions read_groups user_groups channel_map_prefix here_prefix group_shards_prefix
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

-- A user's map of channels, and the members that their shard has, follow: at an id (digits), with what is put on its link
-- under another. joined: nil for one who joins.
local function follow(uid, at, joined, link_id)
  local shard = shards > 1 and shard_among(uid, shards) or 0
  if shard > 0 then
    put_on_link(shard, link_id, { joined and 'left' or 'joined', gid, channel, at, uid })
    if redis.call('HINCRBY', group_shards_prefix .. gid, shard, joined and -1 or 1) == 0 then
      redis.call('HDEL', group_shards_prefix .. gid, shard)
    end
    return
  end
  if joined then
    end_interval(channel_map_prefix .. uid, channel, at, joined)
  else
    begin_interval(channel_map_prefix .. uid, channel, at)
  end
  if shards > 1 then
    redis.call(joined and 'ZREM' or 'ZADD', here_prefix .. gid, unpack(joined and { uid } or { at, uid }))
  end
end

-- Ends memberships at an id (digits). joined: uid to the id at which they joined. mode: of the group.
local function end_memberships(leaving, joined, at, mode, kicked, entry_id)
  local parts = { gid, at, kicked and '1' or '0' }
  for _, uid in ipairs(leaving) do
    follow(uid, at, joined[uid], string.match(entry_id, '^%d+'))
    redis.call('ZREM', members_key, uid)
    if kicked then
      redis.call('SADD', kicked_key, uid)
    end
    count_group(user_groups_key, uid, -1)
    if mode == 'read' then
      count_group(read_groups_key, uid, -1)
    end
    permit(uid, '0')
    to_wake[#to_wake + 1] = uid
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

