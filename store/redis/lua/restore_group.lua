-- Puts an archived group and memberships of it back, unless what Redis holds is newer. Doing it twice changes nothing.
--
-- `above` is an id above every id ever given. `dismissed` and `left` are '0' while it lasts.
--
-- include intervals shards
-- KEYS group members kicked permissions channel_map_prefix here_prefix group_shards_prefix
-- ARGV gid:gid channel:text above:id shards:count owner:text mode:text open:flag made:id dismissed:id changed:id name:text
--   (uid:uid joined:id left:id kicked:flag)...
-- REPLY ok

if tonumber(redis.call('HGET', group_key, 'changed') or 0) < tonumber(changed) then
  redis.call('HSET', group_key, 'owner', owner, 'mode', mode, 'open', open, 'made', made, 'changed', changed,
    'name', name)
  if dismissed ~= '0' then
    redis.call('HSET', group_key, 'dismissed', dismissed, 'ended', above)
  end
end

for argument = FIRST_ARGUMENT, #ARGV, 4 do
  local uid, joined, left, kicked = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
  -- The maps of other shards' users, and what these shards have of the group, are restored there. What the archive says
  -- of the newest membership is all there is to know here.
  local shard = shards > 1 and shard_among(uid, shards) or 0
  local newest, till = joined, left == '0' and '' or left
  if shard == 0 then
    newest, till = merge_interval(channel_map_prefix .. uid, channel, joined, left)
  end
  local was = shards > 1 and redis.call('ZSCORE', members_key, uid)
  if till == '' then
    redis.call('ZADD', members_key, newest, uid)
    redis.call('SREM', kicked_key, uid)
  else
    redis.call('ZREM', members_key, uid)
    if newest == joined then
      redis.call(kicked == '1' and 'SADD' or 'SREM', kicked_key, uid)
    end
  end
  if shards > 1 and shard == 0 then
    redis.call(till == '' and 'ZADD' or 'ZREM', here_prefix .. gid, unpack(till == '' and { newest, uid } or { uid }))
  elseif shards > 1 then
    local more = (till == '' and 1 or 0) - (was and 1 or 0)
    if more ~= 0 and redis.call('HINCRBY', group_shards_prefix .. gid, shard, more) == 0 then
      redis.call('HDEL', group_shards_prefix .. gid, shard)
    end
  end
end

-- Not all of its memberships were ended when it was lost: the list of work goes on with them.
if redis.call('HEXISTS', group_key, 'dismissed') == 1 and redis.call('EXISTS', members_key) == 1 then
  redis.call('XADD', permissions_key, '*', 'a', '0', 'e', gid)
end
return redis.status_reply('OK')
