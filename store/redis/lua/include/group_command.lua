-- One command on one group: what it costs who gave it, what is written with it, and how it is archived.
--
-- `notice`: what the group is told, without its id ('' if it is told nothing). `group`: the group as it was before.
--
-- include batch outbox command control_messages roles events
-- KEYS heads repeat group members channel group_shards_prefix
-- ARGV repeat_seconds:s gid:gid channel:text notice:text
-- REPLY -
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED FAILED

local function is_member(uid)
  return redis.call('ZSCORE', members_key, uid)
end

local fields = redis.call('HMGET', group_key, 'owner', 'mode', 'open', 'name', 'made', 'dismissed', 'admins',
  'muted_until', 'notice')
local group = {
  owner = fields[1], mode = fields[2], open = fields[3], name = fields[4], made = fields[5], dismissed = fields[6],
  admins = fields[7] or '', muted_until = fields[8] or '0', notice = fields[9] or '',
}

-- Whether a user may remove or mute all of these: the owner may, and admins those who are neither owner nor admins.
local function outranks(one, others)
  if one == '0' or one == group.owner then
    return true
  end
  for _, uid in ipairs(others) do
    if role_of(group, uid) ~= 'member' then
      return false
    end
  end
  return true
end

local copies_elsewhere = 0

-- Writes one into the inboxes of users or, where these are nil, into the channel, here and in other shards.
local function store(receivers, tail, others)
  last = last + 1
  local mid = digits(last)
  local places = {}
  mids[#mids + 1], records[#records + 1], written[#written + 1] = mid, mid .. '\n' .. tail, places
  if receivers then
    local here, elsewhere = by_shard(receivers)
    write_inboxes(here, dormant, mid, places)
    for shard, uids in pairs(elsewhere) do
      put_on_link(shard, mid, { 'inbox', uids, mid, records[#records] })
      copies_elsewhere = copies_elsewhere + #uids
    end
  else
    write_channel(channel_key, mid, places)
    redis.call('HSET', heads_key, channel, mid)
    for _, shard in ipairs(others) do
      put_on_link(shard, mid, { 'channel', channel, mid, records[#records] })
      copies_elsewhere = copies_elsewhere + 1
    end
  end
end

-- The other shards, by number, that have members of the group, with those who are about to join.
local function shards_of_members(joining)
  local numbers, known = {}, { [0] = true }
  if shards == 1 then
    return numbers
  end
  local function add(shard)
    if not known[shard] then
      known[shard] = true
      numbers[#numbers + 1] = shard
    end
  end
  for _, shard in ipairs(redis.call('HKEYS', group_shards_prefix .. gid)) do
    add(tonumber(shard))
  end
  for _, uid in ipairs(joining) do
    add(shard_among(uid, shards))
  end
  return numbers
end

-- Tells the group. mode: of now; members: those of a write-mode group; joining: those who join with it.
local function store_notice(mode, members, joining)
  if mode == 'read' then
    store(nil, notice, shards_of_members(joining))
    to_wake[#to_wake + 1] = channel
    return
  end
  find_dormant(members, dormant)
  find_unseen(members, dormant)
  store(members, notice)
  to_wake[#to_wake + 1] = table.concat(members, ' ')
end

-- The command is known again from now on, by the id of its change, and is paid for. bytes: beside the messages.
local function done(change, bytes)
  redis.call('SET', repeat_key, change, 'EX', repeat_seconds)
  charge_for(bytes + bytes_written() + copies_elsewhere * copy_bytes)
end

-- Changes some of `admins`, `muted_until` and `notice`, in Redis and for the archive.
local function moderate(change, fields)
  for field, value in pairs(fields) do
    group[field] = value
    redis.call('HSET', group_key, field, value)
  end
  redis.call('HSET', group_key, 'moderated', change)
  put_into_outbox(change .. '-2', 'moderation', table.concat({
    gid, change, group.muted_until, group.admins, group.notice,
  }, '\n'))
end

-- Tells of the change by an event, if that is asked for. uids: of the users concerned.
local function tell_changed(change, command, actor, uids)
  if is_asked_for('group.changed') then
    local fields = { change, gid, command, actor, table.concat(uids, ' ') }
    put_events(events_key, 'group.changed', { table.concat(fields, '\n') })
    finish_events()
  end
end

local function archive_messages()
  for index, record in ipairs(records) do
    put_into_outbox(mids[index] .. '-0', 'message', record)
  end
end
