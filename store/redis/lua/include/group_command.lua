-- One command on one group: what it costs who gave it, what is written with it, and how it is archived.
--
-- `notice`: what the group is told, without its id ('' if it is told nothing). The actor's `account` may have
-- `budget_most`, of which a command takes `budget_least` at least and each copy of a message `copy_bytes`, and is charged
-- with `charge` beside what is written here ('': it is not judged). `group`: the group as it was before.
--
-- include batch outbox budget roles events
-- KEYS heads repeat group members channel
-- ARGV repeat_seconds:s gid:gid channel:text notice:text account:text budget_least:bytes copy_bytes:bytes charge:text
-- REPLY -
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED FAILED

local function refuse(code)
  return redis.error_reply('REFUSED ' .. code)
end

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

-- What the actor's account is charged with, for a command that wrote so many bytes.
local function charge_for(bytes)
  if charge ~= '' then
    spend(account, tonumber(charge) + math.max(budget_least, bytes))
  end
end

-- Control messages: their ids, the records, and the timelines that each was written to.
local mids, records, written = {}, {}, {}
local dormant = {}

-- Writes one into the inboxes of users or, where these are nil, into the channel.
local function store(receivers, tail)
  last = last + 1
  local mid = digits(last)
  local places = {}
  mids[#mids + 1], records[#records + 1], written[#written + 1] = mid, mid .. '\n' .. tail, places
  if receivers then
    write_inboxes(receivers, dormant, mid, places)
  else
    write_channel(channel_key, mid, places)
    redis.call('HSET', heads_key, channel, mid)
  end
end

-- Tells the group. mode: of now; members: those of a write-mode group.
local function store_notice(mode, members)
  if mode == 'read' then
    store(nil, notice)
    news[#news + 1] = channel
    return
  end
  find_dormant(members, dormant)
  find_unseen(members, dormant)
  store(members, notice)
  news[#news + 1] = table.concat(members, ' ')
end

-- Runs what stores messages. Where one cannot be written, none is, and the failure is returned.
local function store_or_undo(store_all)
  local ok, failure = pcall(store_all)
  if ok then
    ok, failure = pcall(write_bodies, mids, records, written)
  end
  if not ok then
    for index, places in ipairs(written) do
      erase(mids[index], places)
    end
    return redis.error_reply('FAILED ' .. (type(failure) == 'table' and failure.err or tostring(failure)))
  end
end

-- The command is known again from now on, by the id of its change, and is paid for. bytes: beside the messages.
local function done(change, bytes)
  redis.call('SET', repeat_key, change, 'EX', repeat_seconds)
  for index, places in ipairs(written) do
    bytes = bytes + #records[index] * 2 + #places * copy_bytes
  end
  charge_for(bytes)
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
