-- One command on one group: judged by the group's rules, then done whole, with everything that must be told.
--
-- 1. A repeat is answered with the id of the first time.
-- 2. Judge it: who may, the limits. A refusal leaves no trace.
-- 3. Write the control messages to the users concerned and, if members are left, the group's own notice: first the
--    change gets its id, then each message one. A message that cannot be written undoes those before it.
-- 4. Change the group, its members, their maps of channels, their counts of groups; write the work list of permissions
--    and the outbox.
-- When a group is dismissed, a thousand memberships are ended; group_end.lua goes on with the others.
--
-- `max_written`, `max_read`: members of a write-mode and a read-mode group; `max_reading`, `max_groups`: read-mode
-- groups, and groups, of a user; `max_made`: groups that one makes in a day. `command`: create, invite, join, leave,
-- kick, dismiss, mode. `actor`: '0' is an operator. `new_owner`, `new_open` and `new_name` are those of create,
-- `new_mode` that of create and mode. `successor`: who becomes owner as the notice says ('' if nobody does). `notice`:
-- without its id ('' if there is none). `known_only`: '1' if users put only those into groups who have written to them;
-- `actor_topic`: of the actor's inbox; `strangers`: those who have not, with a space between, as `writers_look.lua` said if
-- the actor's inbox lies in another shard. Then per user concerned: uid, and the control message without its id ('' if
-- there is none).
--
-- The reply: what became of it; the id of the change (0: there is none); 1 if the notice was written; the uids of those
-- told; what is on links now, as `include/links.lua` says. SUCCESSION: nothing was done, as the notice must say that the
-- uid becomes owner.
--
-- include group_command memberships blocks writers
-- guarded
-- KEYS permissions read_groups kicked user_groups groups_made
-- ARGV command:text actor:text max_written:count max_read:count max_reading:count
--   new_owner:text new_mode:text new_open:flag new_name:text successor:text
--   max_groups:count max_made:count known_only:flag actor_topic:text strangers:text (uid:uid tail:text)...
-- REPLY outcome=DONE|REPEATED|UNCHANGED|SUCCESSION id noticed uids links
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED RATE FAILED

local limits = { write = max_written, read = max_read }
local DAY_SECONDS = 86400
local MEMBERSHIP_BYTES = 256
local known = redis.call('GET', repeat_key)
if known then
  return { 'REPEATED', tonumber(known), 0, {}, {} }
end
if charge ~= '' and is_spent(account) then
  return redis.error_reply('RATE')
end

local uids, tails = {}, {}
for argument = FIRST_ARGUMENT, #ARGV, 2 do
  uids[#uids + 1] = ARGV[argument]
  tails[ARGV[argument]] = ARGV[argument + 1]
end

-- Whether one of these users is in as many groups as they may.
local function has_as_many(counts_key, among, most)
  for first = 1, #among, 5000 do
    local counts = redis.call('HMGET', counts_key, unpack(among, first, math.min(first + 4999, #among)))
    for _, held in ipairs(counts) do
      if tonumber(held or 0) >= most then
        return true
      end
    end
  end
  return false
end

-- Whether each of these users, but for the actor, has written to the actor, as far as the newest messages say.
local function all_have_written(invited)
  if shards > 1 and shard_among(actor, shards) ~= 0 then
    local is_stranger = {}
    for uid in string.gmatch(strangers, '%d+') do
      is_stranger[uid] = true
    end
    for _, uid in ipairs(invited) do
      if is_stranger[uid] then
        return false
      end
    end
    return true
  end
  local missing = {}
  for _, uid in ipairs(invited) do
    if uid ~= actor then
      missing[uid] = true
    end
  end
  return have_written(actor, actor_topic, missing)
end

-- Whether one of these users blocks the actor.
local function is_blocked_by_any(invited)
  for uid in pairs(blockers_among(invited) or {}) do
    if is_blocked(uid, actor) then
      return true
    end
  end
  return false
end

-- Judge.

if command == 'create' then
  if group.made then
    return refuse('gid_taken')
  end
elseif not group.made or group.dismissed then
  return refuse('unknown_group')
elseif actor ~= '0' and command ~= 'join' then
  if not is_member(actor) then
    return refuse('not_a_member')
  end
  local role = role_of(group, actor)
  if command ~= 'invite' and command ~= 'leave' and role ~= 'owner' and (command ~= 'kick' or role ~= 'admin') then
    return refuse('not_the_owner')
  end
end

local count = redis.call('ZCARD', members_key)
local joining, leaving, joined = {}, {}, {}
local mode, owner = group.mode, group.owner
local changes = true

if command == 'create' then
  mode, owner = new_mode, new_owner
  joining = uids
elseif command == 'invite' then
  for _, uid in ipairs(uids) do
    if not is_member(uid) then
      joining[#joining + 1] = uid
    end
  end
  changes = #joining > 0
elseif command == 'join' then
  changes = not is_member(actor)
  if changes then
    if group.open ~= '1' then
      return refuse('not_open')
    end
    if redis.call('SISMEMBER', kicked_key, actor) == 1 then
      return refuse('kicked')
    end
    joining = uids
  end
elseif command == 'leave' or command == 'kick' then
  for _, uid in ipairs(uids) do
    joined[uid] = is_member(uid)
    if not joined[uid] then
      return refuse('not_a_member')
    end
  end
  if command == 'kick' and not outranks(actor, uids) then
    return refuse('not_the_owner')
  end
  leaving = uids
elseif command == 'mode' then
  changes = new_mode ~= mode
  mode = new_mode
end
if not changes then
  charge_for(0)
  return { 'UNCHANGED', 0, 0, {}, {} }
end

-- The users who get one more read-mode group: those who join one, and those whose group becomes one.
local readers = mode == 'read' and joining or {}
if command == 'mode' then
  readers = mode == 'read' and redis.call('ZRANGE', members_key, 0, -1) or {}
end
if count + #joining - #leaving > limits[mode] and (#joining > 0 or command == 'mode') then
  return refuse('group_limit')
end
if has_as_many(read_groups_key, readers, max_reading) or has_as_many(user_groups_key, joining, max_groups) then
  return refuse('user_limit')
end
if actor ~= '0' then
  if command == 'create' and tonumber(redis.call('GET', groups_made_key) or 0) >= max_made then
    return refuse('groups_per_day')
  end
  if command ~= 'join' and is_blocked_by_any(joining) then
    return refuse('blocked')
  end
  if known_only == '1' and command ~= 'join' and not all_have_written(joining) then
    return refuse('not_known')
  end
end

local left = count + #joining - #leaving
local dismissed = command == 'dismiss' or left == 0
local admins = without_admins(group.admins, function(uid) return dismissed or joined[uid] end)
if dismissed then
  owner = ''
elseif joined[owner] then
  owner = string.match(admins, '^%d+')
  for _, uid in ipairs(owner and {} or redis.call('ZRANGE', members_key, 0, #leaving)) do
    if not joined[uid] then
      owner = uid
      break
    end
  end
  admins = without_admins(admins, function(uid) return uid == owner end)
  if owner ~= successor then
    return { 'SUCCESSION', 0, 0, { owner }, {} }
  end
end

-- Write the messages. The change has the first id, a dismissed group ends with the last one.

local change = digits(last + 1)
redis.call('SET', clock_key, digits(last + #uids + 3))
last = last + 1
local told, noticed = {}, 0

local function store_all()
  find_dormant(uids, dormant)
  for _, uid in ipairs(command == 'invite' and joining or uids) do
    if tails[uid] ~= '' then
      store({ uid }, tails[uid])
      told[#told + 1] = uid
    end
  end
  if notice == '' or left == 0 then
    return
  end
  noticed = 1
  local staying = {}
  for _, uid in ipairs(mode == 'write' and redis.call('ZRANGE', members_key, 0, -1) or {}) do
    if not joined[uid] then
      staying[#staying + 1] = uid
    end
  end
  for _, uid in ipairs(mode == 'write' and joining or {}) do
    staying[#staying + 1] = uid
  end
  store_notice(mode, staying, joining)
end

local failure = store_or_undo(store_all)
if failure then
  return failure
end

-- Change the state.

done(change, MEMBERSHIP_BYTES * (#joining + #leaving))
if command == 'create' then
  group = { open = new_open, name = new_name, made = change, admins = '' }
  redis.call('HSET', group_key, 'open', group.open, 'name', group.name, 'made', change)
  if actor ~= '0' and redis.call('INCR', groups_made_key) == 1 then
    redis.call('EXPIRE', groups_made_key, DAY_SECONDS)
  end
end
redis.call('HSET', group_key, 'owner', owner, 'mode', mode, 'changed', change)
if dismissed then
  redis.call('HSET', group_key, 'dismissed', change, 'ended', digits(last + 1))
  redis.call('DEL', mutes_prefix .. gid)
end
put_into_outbox(change .. '-0', 'group', table.concat({
  gid, owner, mode, group.open, group.made, dismissed and change or '0', change, group.name,
}, '\n'))

if #joining > 0 then
  local parts = { gid, '0', '0' }
  for _, uid in ipairs(joining) do
    follow(uid, change, nil, digits(last))
    redis.call('ZADD', members_key, change, uid)
    redis.call('SREM', kicked_key, uid)
    count_group(user_groups_key, uid, 1)
    permit(uid, '1')
    to_wake[#to_wake + 1] = uid
    parts[#parts + 1] = uid .. ':' .. change
  end
  put_into_outbox(change .. '-1', 'member', table.concat(parts, '\n'))
end
for _, uid in ipairs(readers) do
  count_group(read_groups_key, uid, 1)
end
if command == 'mode' and mode == 'write' then
  for _, uid in ipairs(redis.call('ZRANGE', members_key, 0, -1)) do
    count_group(read_groups_key, uid, -1)
  end
end
if #leaving > 0 then
  end_memberships(leaving, joined, change, mode, command == 'kick', change .. '-1')
end
if admins ~= group.admins then
  moderate(change, { admins = admins })
end
tell_changed(change, command, actor, #joining > 0 and joining or leaving)
archive_messages()
if dismissed and left > 0 then
  local ended = digits(last + 1)
  if end_some(ended, mode, ended .. '-0') > 0 then
    redis.call('XADD', permissions_key, '*', 'a', actor, 'e', gid)
  end
end
write_links(digits(last))
finish()
return { 'DONE', tonumber(change), noticed, told, links }
