-- The roles of a group's members, and which of them are muted.
--
-- In a group's hash `admins` is `uid:id` of each with a space between, the longest-standing first, with the id since
-- which they are; `muted_until` is the moment (milliseconds) until which all are muted but owner and admins;
-- `mutes_until` that until which any single member is. Nothing ends a mute but time: both may lie in the past.
--
-- KEYS mutes_prefix
-- ARGV -
-- REPLY -

-- owner, admin or member. group: with the fields `owner` and `admins`. Whether they are a member is not looked at.
local function role_of(group, uid)
  if uid == group.owner then
    return 'owner'
  end
  return string.find(' ' .. (group.admins or ''), ' ' .. uid .. ':', 1, true) and 'admin' or 'member'
end

-- Whether messages of a member are refused at a moment. fields: the fields `muted_until` and `mutes_until`.
local function is_muted(group_key, gid, uid, muted_until, mutes_until, at)
  local is_all, is_some = at < tonumber(muted_until or 0), at < tonumber(mutes_until or 0)
  if not is_all and not is_some then
    return false
  end
  local fields = redis.call('HMGET', group_key, 'owner', 'admins')
  local role = role_of({ owner = fields[1], admins = fields[2] }, uid)
  if role == 'owner' then
    return false
  end
  if is_all and role == 'member' then
    return true
  end
  return is_some and at < tonumber(redis.call('ZSCORE', mutes_prefix .. gid, uid) or 0)
end

-- The admins without those of whom `goes` says so.
local function without_admins(admins, goes)
  local staying = {}
  for each, uid in string.gmatch(admins, '((%d+):%d+)') do
    if not goes(uid) then
      staying[#staying + 1] = each
    end
  end
  return table.concat(staying, ' ')
end
