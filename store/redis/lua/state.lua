-- Changes one state of a user: a read mark, a setting or a block. It is judged, then done whole.
--
-- 1. A repeat is answered with the id of the first time.
-- 2. Judge it. A refusal leaves no trace; what changes nothing is answered with the id of the last change.
-- 3. Write the state under the next id; of a read mark in a private conversation also what the peer is told of it, if
--    the peer has written to the reader and neither blocks the other.
-- 4. Write the outbox, and what is for other shards on their links.
--
-- `name` and `value` are those of the state. With a read mark, `channel` is that of the conversation ('' of a private one),
-- `peer` the other user of a private one who may be told ('' for nobody), `peer_name` the name of their state, and
-- `own_topic` that of the reader's inbox. `heard`: '1' or '0' if the archive was asked whether the peer wrote the message
-- that is read, '' if it was not. `looked`, `peer_looked`: where there are several shards, what `state_look.lua` said of
-- either in their shard.
--
-- The reply: what became of it; the id of the change (0: there was never any); 1 if the peer is told; what is on links
-- now, as `include/links.lua` says. UNKNOWN: nothing was done, as the archive has to be asked. AGAIN: nothing was done, as
-- a change up to this id may have been on its way when their shards were looked at.
--
-- include batch outbox command state_room blocks writers looking
-- guarded
-- KEYS repeat group tag channel_map
-- ARGV repeat_seconds:s uid:uid name:text value:text channel:text peer:text peer_name:text own_topic:text heard:text
--   looked:text peer_looked:text
-- REPLY outcome=DONE|REPEATED|UNCHANGED|UNKNOWN|AGAIN id told links
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED RATE

local known = redis.call('GET', repeat_key)
if known then
  return { 'REPEATED', tonumber(known), 0, {} }
end
if charge ~= '' and is_spent(account) then
  return redis.error_reply('RATE')
end

-- Where there is one shard, all lies here.
local function looked_up(owner, of, said)
  if said == '' then
    return look_at(owner, of, value, window_edge)
  end
  local found = cmsgpack.unpack(said)
  found.stale = changed_since({ owner }, found.clock, shard_among(owner, shards), last)
  return found
end

-- Judge.

local own = looked_up(uid, name, looked)
if own.stale then
  return { 'AGAIN', own.stale, 0, {} }
end
local is_read = is_mark(name)

-- Whether there is such a group or tag, and whether the user is, or was, in it.
local function judge_channel()
  if channel == '' or own.is_in or looked == '' and redis.call('HEXISTS', channel_map_key, channel) == 1 then
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
if not own.changes then
  charge_for(0)
  redis.call('SET', repeat_key, own.at, 'EX', repeat_seconds)
  return { 'UNCHANGED', tonumber(own.at), 0, {} }
end
if not own.room then
  return refuse(string.byte(name) == 98 and 'block_limit' or 'setting_limit')
end

local peers

-- Whether the peer is told; nil if only the archive knows.
local function is_told()
  if peer == '' or is_blocked(peer, uid) or is_blocked(uid, peer) then
    return false
  end
  peers = looked_up(peer, peer_name, peer_looked)
  if not peers.changes then
    return false
  end
  local said = own.heard or was_heard(uid, own_topic, peer, value)
  if said == '' and heard == '' then
    return nil
  end
  return said == '1' or heard == '1'
end
local told = is_told()
if peers and peers.stale then
  return { 'AGAIN', peers.stale, 0, {} }
end
if told == nil then
  return { 'UNKNOWN', 0, 0, {} }
end

-- Change the state.

local change = digits(last + 1)
redis.call('SET', clock_key, change)
local entries = 0

local function archive(kind, owner, of, to)
  entries = entries + 1
  put_into_outbox(change .. '-' .. entries, kind, table.concat({ owner, change, #of, of .. to }, '\n'))
end

local function change_state(owner, of, to, going)
  archive('state', owner, of, to)
  for _, name_gone in ipairs(is_mark(of) and going or {}) do
    archive('state_gone', owner, name_gone, '')
  end
  note_block(owner, of, to)
  local shard = shards > 1 and shard_among(owner, shards) or 0
  if shard > 0 then
    put_on_link(shard, change, { 'state', owner, of, change, to, going })
    return
  end
  for _, name_gone in ipairs(going) do
    forget_state(owner, name_gone)
  end
  write_state(owner, of, change, to)
  to_wake[#to_wake + 1] = owner
end

redis.call('SET', repeat_key, change, 'EX', repeat_seconds)
change_state(uid, name, value, own.going)
if told then
  change_state(peer, peer_name, value, peers.going)
end
if shards > 1 then
  note_changing(told and { uid, peer } or { uid }, change)
end
charge_for((#name + #value) * 2)
write_links(change)
finish()
return { 'DONE', tonumber(change), told and 1 or 0, links }
