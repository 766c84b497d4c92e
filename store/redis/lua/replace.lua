-- Recalls or edits one message: judged, then its body is replaced in place, with everything that must be told of it.
--
-- 1. A repeat is answered with the id of the first time.
-- 2. Judge it. A refusal leaves no trace.
-- 3. Write the control messages where the message itself would go now: into the inboxes of the pair; into the inboxes of
--    a group's members, or its channel; into the channel of a tag or of everybody. A channel that has the message has its
--    control message in any case: by it processes know that hold the channel's messages.
-- 4. Replace the body, and write the outbox: the message as it is now, then the control messages.
--
-- `command`: recall or edit. `actor`: '0' is an operator. `kind`: of the address, inbox, group or channel; `to`: the uid,
-- or the name of the channel. `oldest`: the message must not have a lower id (0: it may have any). `archived`: the message
-- as another shard has it, or the archive, if this one was asked before and does not have it ('': it was not).
-- `before_id`, `behind_id`: what is before and behind the client id in the payload of an edited message. `author`: whose
-- inbox beside the receiver's is told ('' if that is not known). `notice`: the control message without its id;
-- `own_notice`: that to the author. `own_copies` is '1' if senders have their own messages in their inboxes.
--
-- The reply: what became of it; the id of the change, which is that of its control message, too (UNCHANGED: it had been
-- recalled before, by a change of this id); 1 if the control message was written; 1 if the author's was; the author; what
-- is on links now, as `include/links.lua` says.
-- AUTHOR: nothing was done, as the author has to be told. UNKNOWN: nothing was done; the archive may have the message once
-- it has all that waits now.
--
-- include batch outbox command control_messages replacing roles events blocks
-- guarded
-- KEYS heads repeat group members channel group_shards_prefix
-- ARGV repeat_seconds:s command:text actor:text kind:text to:text topic:text mid:id oldest:us archived:text
--   before_id:text behind_id:text author:text notice:text own_notice:text own_copies:flag
-- REPLY outcome=DONE|REPEATED|UNCHANGED|AUTHOR|UNKNOWN id noticed own_noticed author links
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED RATE FAILED

local known = redis.call('GET', repeat_key)
if known then
  return { 'REPEATED', tonumber(known), 0, 0, '', {} }
end
if charge ~= '' and is_spent(account) then
  return redis.error_reply('RATE')
end

local bodies_key = bodies_prefix .. span_of(mid)
local lies_here = redis.call('HGET', bodies_key, mid)
local record = lies_here or archived
local is_late = tonumber(mid) < oldest
if record == '' then
  if is_late then
    return refuse('too_late')
  end
  if tonumber(mid) > last then
    return refuse('unknown_message')
  end
  return { 'UNKNOWN', 0, 0, 0, '', {} }
end

-- What the archive had when it was asked, or another shard, may not be what it will have.
local oldest_waiting = oldest_in_outbox()
if not lies_here and is_replacing(mid, mid, oldest_waiting) then
  local changed = string.match(record, '^%d+\n[^\n]*\n[^\n]*\n[^\n]*\n%d+\n[er](%d+)')
  if tonumber(changed or 0) < newest_replacing(mid) then
    return { 'UNKNOWN', 0, 0, 0, '', {} }
  end
end

-- Judge.

local its_topic, sender, client_id, ts, form, payload =
  string.match(record, '^%d+\n([^\n]*)\n([^\n]*)\n([^\n]*)\n(%d+)\n([^\n]*)\n(.*)$')
if its_topic ~= topic then
  return refuse('unknown_message')
end

local group = kind == 'group'
  and redis.call('HMGET', group_key, 'owner', 'mode', 'dismissed', 'admins', 'muted_until', 'mutes_until') or {}
local mode, dismissed = group[2], group[3]

-- Who beside the sender may take a message back.
local function may_recall_of_others()
  return kind == 'group' and not dismissed and role_of({ owner = group[1], admins = group[4] }, actor) ~= 'member'
end

local function is_control_message()
  return sender == '0' and string.find(payload, '^{"id":"[^"]*","type":"im%.')
end

if actor == '0' then
  if is_control_message() then
    return refuse('of_the_service')
  end
elseif sender ~= actor then
  if kind == 'inbox' then
    return refuse('unknown_message')
  end
  if sender == '0' then
    return refuse('of_the_service')
  end
  if command == 'edit' or not may_recall_of_others() then
    return refuse('not_the_sender')
  end
end

local recalled_at = string.match(form, '^r(%d+):')
if recalled_at then
  if command == 'edit' then
    return refuse('recalled')
  end
  charge_for(0)
  redis.call('SET', repeat_key, recalled_at, 'EX', repeat_seconds)
  return { 'UNCHANGED', tonumber(recalled_at), 0, 0, '', {} }
end
if is_late then
  return refuse('too_late')
end
-- An edit is judged like a new message.
if command == 'edit' and kind == 'group' then
  if not mode or dismissed then
    return refuse('unknown_group')
  end
  if not redis.call('ZSCORE', members_key, actor) then
    return refuse('not_a_member')
  end
  if is_muted(group_key, string.match(to, '%d+$'), actor, group[5], group[6], now_ms) then
    return refuse('muted')
  end
end
if command == 'edit' and kind == 'inbox' and is_blocked(to, actor) then
  return refuse('blocked')
end
if kind == 'inbox' and author ~= sender then
  return { 'AUTHOR', 0, 0, 0, sender, {} }
end

-- Write the control messages: the first has the id of the change.

redis.call('SET', clock_key, digits(last + 2))
local change, own_id = digits(last + 1), digits(last + 2)
local function note(id, tail)
  local places = {}
  mids[#mids + 1], records[#records + 1], written[#written + 1] = id, id .. '\n' .. tail, places
  return places
end

local function tell_users(uids, id, tail)
  find_dormant(uids, dormant)
  if kind == 'group' then
    find_unseen(uids, dormant)
  end
  local here, others = by_shard(uids)
  write_inboxes(here, dormant, id, note(id, tail))
  for shard, theirs in pairs(others) do
    put_on_link(shard, id, { 'inbox', theirs, id, records[#records] })
  end
  to_wake[#to_wake + 1] = table.concat(uids, ' ')
end

local noticed, own_noticed = 0, 0
local function tell()
  if kind == 'inbox' then
    tell_users({ to }, change, notice)
    noticed = 1
    if own_copies == '1' and author ~= '0' and author ~= to then
      tell_users({ author }, own_id, own_notice)
      own_noticed = 1
    end
    return
  end
  local members = mode == 'write' and not dismissed and redis.call('ZRANGE', members_key, 0, -1)
  if members then
    tell_users(members, change, notice)
    noticed = 1
  end
  if not members and not dismissed or redis.call('ZSCORE', channel_key, mid) then
    write_channel(channel_key, change, noticed == 1 and written[1] or note(change, notice))
    redis.call('HSET', heads_key, to, change)
    to_wake[#to_wake + 1] = to
    noticed = dismissed and 0 or 1
  end
  -- Another shard writes it into its copy of the channel in any case, if it has members of a group that is read, or only
  -- if the message lies there.
  local reading = kind ~= 'group' or not members and not dismissed
  for shard = 1, shards - 1 do
    local has_readers = kind ~= 'group' or redis.call('HEXISTS', group_shards_prefix .. string.match(to, '%d+$'), shard) == 1
    put_on_link(shard, change, { 'told', to, mid, change, records[1] or change .. '\n' .. notice, reading and has_readers })
  end
  if shards > 1 and not dismissed then
    noticed = 1
  end
end

local failure = store_or_undo(tell)
if failure then
  return failure
end

-- Replace the message.

if command == 'recall' then
  form, payload = 'r' .. change .. ':' .. actor, ''
else
  form = 'e' .. change
  payload = before_id .. '"' .. string.gsub(client_id, '[\\"]', '\\%0') .. '"' .. behind_id
end
record = table.concat({ mid, topic, sender, client_id, ts, form, payload }, '\n')
if lies_here then
  redis.call('HSET', bodies_key, mid, record)
end
for shard = 1, shards - 1 do
  put_on_link(shard, change, { 'replace', mid, record })
end
redis.call('SET', repeat_key, change, 'EX', repeat_seconds)
charge_for(#record * 2 + bytes_written())

-- Until the archive has it, pulls that read this message there wait.
note_replacing(mid, change, oldest_waiting)
put_into_outbox(change .. '-0', 'replace', record)
for index, each in ipairs(records) do
  put_into_outbox(mids[index] .. '-1', 'message', each)
end
local event = command == 'recall' and 'message.recalled' or 'message.edited'
if is_asked_for(event) then
  put_events(events_key, event, { table.concat({ change, topic, mid, actor }, '\n') })
end
finish_events()
write_links(own_id)
finish()
return { 'DONE', tonumber(change), noticed, own_noticed, sender, links }
