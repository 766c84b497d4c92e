-- Puts an archived group and memberships of it back, unless what Redis holds is newer. Doing it twice changes nothing.
--
-- `above` is an id above every id ever given. `dismissed` and `left` are '0' while it lasts.
--
-- KEYS group members kicked permissions channel_map_prefix
-- ARGV gid:gid channel:text above:id owner:text mode:text open:flag made:id dismissed:id changed:id name:text
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
  local map = channel_map_prefix .. uid
  local ends, joins = { [joined] = left == '0' and '' or left }, { joined }
  for since, till in string.gmatch(redis.call('HGET', map, channel) or '', '(%d+):(%d*)') do
    if since ~= joined then
      joins[#joins + 1] = since
      ends[since] = till
    elseif ends[joined] == '' then
      ends[joined] = till
    end
  end
  table.sort(joins, function(one, other) return tonumber(one) < tonumber(other) end)
  local spans = {}
  for index, since in ipairs(joins) do
    spans[index] = since .. ':' .. ends[since]
  end
  redis.call('HSET', map, channel, table.concat(spans, ','))

  local newest = joins[#joins]
  if ends[newest] == '' then
    redis.call('ZADD', members_key, newest, uid)
    redis.call('SREM', kicked_key, uid)
  else
    redis.call('ZREM', members_key, uid)
    if newest == joined then
      redis.call(kicked == '1' and 'SADD' or 'SREM', kicked_key, uid)
    end
  end
end

-- Not all of its memberships were ended when it was lost: the list of work goes on with them.
if redis.call('HEXISTS', group_key, 'dismissed') == 1 and redis.call('EXISTS', members_key) == 1 then
  redis.call('XADD', permissions_key, '*', 'a', '0', 'e', gid)
end
return redis.status_reply('OK')
