-- One command of those who moderate a group: update, transfer, admin or mute. It is judged, then done whole.
--
-- 1. A repeat is answered with the id of the first time.
-- 2. Judge it: who may, and on whom. A refusal leaves no trace.
-- 3. Write the group's notice: the change has the first id, the notice the second.
-- 4. Change the group, and write the outbox: the group as it stands, then what moderates it, then mutes, the notice.
--
-- `actor`: '0' is an operator. `command`: of these four.
--   update: `new_name`, `new_open`, `new_notice`, of which `changing_name`, `changing_open` and `changing_notice` say
--   that they are given.
--   transfer: to the user concerned. admin: the users concerned become admins, `max_admins` at most, if `on`.
--   mute: the users concerned, or everybody if `everybody`, until `new_until` (0: no longer).
-- Then the users concerned.
--
-- The reply: what became of it; the id of the change (0: there is none); 1 if the notice was written; what is on links
-- now, as `include/links.lua` says.
--
-- include group_command
-- guarded
-- KEYS -
-- ARGV command:text actor:text changing_name:flag new_name:text changing_open:flag new_open:flag changing_notice:flag new_notice:text on:flag
--   max_admins:count everybody:flag new_until:ms (uid:uid)...
-- REPLY outcome=DONE|REPEATED|UNCHANGED id noticed links
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED RATE FAILED

local known = redis.call('GET', repeat_key)
if known then
  return { 'REPEATED', tonumber(known), 0, {} }
end
if charge ~= '' and is_spent(account) then
  return redis.error_reply('RATE')
end

local uids = {}
for argument = FIRST_ARGUMENT, #ARGV do
  uids[#uids + 1] = ARGV[argument]
end

-- Judge.

local BY_ADMINS = { update = true, mute = true }

if not group.made or group.dismissed then
  return refuse('unknown_group')
end
if actor ~= '0' then
  if not is_member(actor) then
    return refuse('not_a_member')
  end
  local role = role_of(group, actor)
  if role ~= 'owner' and not (role == 'admin' and BY_ADMINS[command]) then
    return refuse('not_the_owner')
  end
end
local concerned = {}
for _, uid in ipairs(uids) do
  if not is_member(uid) then
    return refuse('not_a_member')
  end
  concerned[uid] = true
end
if command == 'mute' and not outranks(actor, uids) then
  return refuse('not_the_owner')
end
-- The owner is never muted, and no admin.
if concerned[group.owner] and (command == 'admin' or command == 'mute' and new_until ~= 0) then
  return refuse('bad_command')
end

local owner, name, open, admins = group.owner, group.name, group.open, group.admins
-- What `moderate` is to change.
local moderated = {}
local changes = false

if command == 'update' then
  name = changing_name == '1' and new_name or name
  open = changing_open == '1' and new_open or open
  moderated.notice = changing_notice == '1' and new_notice or nil
  changes = name ~= group.name or open ~= group.open or (moderated.notice or group.notice) ~= group.notice
elseif command == 'transfer' then
  owner = uids[1]
  changes = owner ~= group.owner
elseif command == 'admin' then
  for _, uid in ipairs(uids) do
    changes = changes or (role_of(group, uid) == 'admin') ~= (on == '1')
  end
elseif everybody == '1' then
  moderated.muted_until = digits(new_until)
  changes = new_until ~= 0 or tonumber(group.muted_until) > now_ms
elseif new_until ~= 0 then
  changes = true
else
  for _, uid in ipairs(uids) do
    changes = changes or tonumber(redis.call('ZSCORE', mutes_prefix .. gid, uid) or 0) > now_ms
  end
end
if not changes then
  charge_for(0)
  return { 'UNCHANGED', 0, 0, {} }
end

local change = digits(last + 1)
local promoted = {}
if command == 'transfer' then
  admins = without_admins(admins, function(uid) return uid == owner end)
  promoted = { group.owner }
elseif command == 'admin' and on == '1' then
  promoted = uids
elseif command == 'admin' then
  admins = without_admins(admins, function(uid) return concerned[uid] end)
end
for _, uid in ipairs(promoted) do
  if role_of({ admins = admins }, uid) == 'member' then
    admins = admins .. (admins == '' and '' or ' ') .. uid .. ':' .. change
  end
end
if #promoted > 0 and select(2, string.gsub(admins, ':', '')) > max_admins then
  return refuse('admin_limit')
end
if admins ~= group.admins then
  moderated.admins = admins
end

-- Write the notice.

redis.call('SET', clock_key, digits(last + 2))
last = last + 1
local failure = store_or_undo(function()
  store_notice(group.mode, group.mode == 'write' and redis.call('ZRANGE', members_key, 0, -1) or {}, {})
end)
if failure then
  return failure
end

-- Change the state.

local MEMBER_BYTES = 64
done(change, MEMBER_BYTES * #uids + #new_name + #new_notice)
redis.call('HSET', group_key, 'owner', owner, 'name', name, 'open', open, 'changed', change)
put_into_outbox(change .. '-0', 'group', table.concat({
  gid, owner, group.mode, open, group.made, '0', change, name,
}, '\n'))
moderate(change, moderated)
if command == 'mute' and everybody == '0' then
  local mutes_key = mutes_prefix .. gid
  local parts = { gid, change, digits(new_until) }
  redis.call('ZREMRANGEBYSCORE', mutes_key, '-inf', now_ms)
  for _, uid in ipairs(uids) do
    if new_until == 0 then
      redis.call('ZREM', mutes_key, uid)
    else
      redis.call('ZADD', mutes_key, digits(new_until), uid)
    end
    parts[#parts + 1] = uid
  end
  local longest = redis.call('ZREVRANGE', mutes_key, 0, 0, 'WITHSCORES')
  redis.call('HSET', group_key, 'mutes_until', longest[2] or '0')
  put_into_outbox(change .. '-3', 'mute', table.concat(parts, '\n'))
end
tell_changed(change, command, actor, uids)
archive_messages()
write_links(digits(last))
finish()
return { 'DONE', tonumber(change), 1, links }
