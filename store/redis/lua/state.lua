-- Changes one state of a user: a read mark, a setting or a block. It is judged, then done whole.
--
-- 1. A repeat is answered with the id of the first time.
-- 2. Judge it. A refusal leaves no trace; what changes nothing is answered with the id of the last change.
-- 3. Write the state under the next id; of a read mark in a private conversation also what the peer is told of it, if
--    the peer has written to the reader and neither blocks the other.
-- 4. Write the outbox.
--
-- `name` and `value` are those of the state. With a read mark, `channel` is that of the conversation ('' of a private one),
-- `peer` the other user of a private one who may be told ('' for nobody), `peer_name` the name of their state, and
-- `own_topic` that of the reader's inbox. `heard`: '1' or '0' if the archive was asked whether the peer wrote the message
-- that is read, '' if it was not. The actor's `account` is charged with `charge` beside what this takes ('': it is not
-- judged).
--
-- The reply: what became of it; the id of the change (0: there was never any); 1 if the peer is told. UNKNOWN: nothing
-- was done, as the archive has to be asked.
--
-- include batch one_shard outbox budget states blocks writers
-- guarded
-- KEYS repeat group tag channel_map
-- ARGV repeat_seconds:s uid:uid name:text value:text channel:text peer:text peer_name:text own_topic:text heard:text
--   account:text budget_least:bytes charge:text
-- REPLY outcome=DONE|REPEATED|UNCHANGED|UNKNOWN id told
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED RATE FAILED

local known = redis.call('GET', repeat_key)
if known then
  return { 'REPEATED', tonumber(known), 0 }
end
if charge ~= '' and is_spent(account) then
  return redis.error_reply('RATE')
end

local function refuse(code)
  return redis.error_reply('REFUSED ' .. code)
end

local function charge_for(bytes)
  if charge ~= '' then
    spend(account, tonumber(charge) + math.max(budget_least, bytes))
  end
end

-- Judge.

local before = value_of(uid, name)
local is_read = is_mark(name)

-- Whether there is such a group or tag, and whether the user is, or was, in it.
local function judge_channel()
  if channel == '' or redis.call('HEXISTS', channel_map_key, channel) == 1 then
    return nil
  end
  local group = redis.call('HMGET', group_key, 'made', 'dismissed')
  if string.find(channel, '^group:') then
    return group[1] and not group[2] and 'not_a_member' or 'unknown_group'
  end
  local tag = redis.call('HMGET', tag_key, 'made', 'deleted')
  return (not tag[1] or tag[2]) and 'unknown_tag' or nil
end

if is_read then
  if tonumber(value) > last then
    return refuse('bad_mid')
  end
  local refusal = judge_channel()
  if refusal then
    return refuse(refusal)
  end
end
local changes = before ~= value
if is_read and before then
  changes = tonumber(value) > tonumber(before)
elseif not before then
  changes = value ~= ''
end
if not changes then
  charge_for(0)
  local at = redis.call('ZSCORE', states_prefix .. 'n:' .. uid, name) or '0'
  redis.call('SET', repeat_key, at, 'EX', repeat_seconds)
  return { 'UNCHANGED', tonumber(at), 0 }
end
local goes = value == ''
if not is_read and not goes and (not before or before == '') and not has_room(uid, name, window_edge) then
  return refuse(string.byte(name) == 98 and 'block_limit' or 'setting_limit')
end

-- Whether the peer is told; nil if only the archive knows.
local function is_told()
  if peer == '' or is_blocked(peer, uid) or is_blocked(uid, peer) then
    return false
  end
  if tonumber(value_of(peer, peer_name) or 0) >= tonumber(value) then
    return false
  end
  local body = bodies_of({ value }, 1, 1)[1]
  if body and string.match(body, '^%d+\n([^\n]*)\n') == own_topic and string.match(body, '^%d+\n[^\n]*\n([^\n]*)\n') == peer then
    return true
  end
  if have_written(uid, own_topic, { [peer] = true }) then
    return true
  end
  if body or heard ~= '' then
    return heard == '1'
  end
  return nil
end
local told = is_told()
if told == nil then
  return { 'UNKNOWN', 0, 0 }
end

-- Change the state.

local change = digits(last + 1)
redis.call('SET', clock_key, change)
local entries = 0

local function archive(kind, owner, of, to)
  entries = entries + 1
  put_into_outbox(change .. '-' .. entries, kind, table.concat({ owner, change, #of, of .. to }, '\n'))
end

local function change_state(owner, of, to)
  archive('state', owner, of, to)
  for _, gone in ipairs(write_state(owner, of, change, to)) do
    archive('state_gone', owner, gone, '')
  end
  news[#news + 1] = owner
end

redis.call('SET', repeat_key, change, 'EX', repeat_seconds)
change_state(uid, name, value)
if told then
  change_state(peer, peer_name, value)
end
charge_for((#name + #value) * 2)
finish()
return { 'DONE', tonumber(change), told and 1 or 0 }
