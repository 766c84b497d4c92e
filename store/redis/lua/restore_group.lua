-- Puts an archived group and memberships of it back. What Redis holds stays where it is newer; doing it twice changes
-- nothing.
--
-- KEYS  1 the group, 2 its members, 3 who was kicked, 4 permissions,
--       5 what the names of users' maps of channels start with
-- ARGV  1 gid, 2 channel name, 3 id above every id ever given;
--       4 owner, 5 mode, 6 open, 7 made, 8 dismissed ('0': it lives), 9 changed, 10 name;
--       then per membership: uid, joined, left ('0': it lasts), 1 if he was kicked
-- Reply OK

local group_key, members_key, kicked_key, permissions_key, map_prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local gid, channel, above = ARGV[1], ARGV[2], ARGV[3]
local owner, mode, open, made, dismissed, changed, name =
  ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local FIRST_MEMBER = 11

if tonumber(redis.call('HGET', group_key, 'changed') or 0) < tonumber(changed) then
  redis.call('HSET', group_key, 'owner', owner, 'mode', mode, 'open', open, 'made', made, 'changed', changed,
    'name', name)
  if dismissed ~= '0' then
    redis.call('HSET', group_key, 'dismissed', dismissed, 'ended', above)
  end
end

for argument = FIRST_MEMBER, #ARGV, 4 do
  local uid, joined, left, kicked = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
  local map = map_prefix .. uid
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
    if newest == joined and kicked == '1' then
      redis.call('SADD', kicked_key, uid)
    end
  end
end

-- Not all of its memberships were ended when it was lost: the list of work goes on with them.
if redis.call('HEXISTS', group_key, 'dismissed') == 1 and redis.call('EXISTS', members_key) == 1 then
  redis.call('XADD', permissions_key, '*', 'a', '0', 'e', gid)
end
return redis.status_reply('OK')
