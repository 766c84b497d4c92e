-- Appends a batch of messages, each to any number of timelines, and to the outbox. Per entry it is all or nothing.
--
-- 1. Reserve the batch's ids by writing the clock first: whatever fails later, no id is given twice.
-- 2. Per entry: recognise a repeat; look whether a group takes the message, and who is in it, or whether there is such
--    a tag, or whether the receiver blocks the sender, and whether the sender may write so much, where that is to be
--    judged; give the next id, write the timelines (those of dormant users, and of users who were never seen, are skipped: they read the archive when they come).
-- 3. Once so much was written to groups that others have waited long enough, later group messages are put off.
-- 4. Write the bodies, each once for all its timelines; the events that are asked for, among them which receivers were
--    offline, of this shard: the others tell of theirs; and the outbox: as few entries as hold all messages, each under the id of its first message; then what is
--    for other shards, on their links.
-- 5. Tell waiting pulls, once for the batch.
--
-- A repeat is recognised for `repeat_seconds`. `own_copies` is '1' if senders have their own messages in their inboxes.
-- A sender's account has `budget_limit` a minute, of which a message takes `min_charge` at least, and `copy_bytes` for
-- each inbox.
--
-- The keys of an entry: its repeat key; of one to a channel then the channel, of one to a group the group, its members
-- and its channel, of one to a tag the tag and its channel. Its arguments: its kind, 'inbox', 'group', 'tag' or 'global';
-- to whom (of inboxes one or two uids with a space between, else the name of the channel); its record without the id;
-- the bytes that the sender's account is charged with ('': that is not judged; a group's are added to them here).
--
-- The reply has for each entry the id, if it is new; 'REPEATED <id>'; 'LATER', if it was not reached; 'REFUSED <rule>',
-- if the group does not take it, there is no such tag, or the receiver blocks the sender; 'RATE', if the sender may write
-- no more in that minute; 'FAILED <text>', if only this entry failed. Then what is on links now, as `include/links.lua`
-- says.
--
-- include batch outbox budget roles events blocks online
-- guarded
-- KEYS heads here_prefix group_shards_prefix (entry)...
-- ARGV repeat_seconds:s own_copies:flag min_charge:bytes copy_bytes:bytes
--   (kind:text to:text tail:text charge:text)...
-- REPLY outcomes=REPEATED|LATER|REFUSED|RATE|FAILED links
-- ERROR EMPTY BEHIND OUTBOXFULL

local MAX_DELIVERIES = 2000
-- Looking whether a member is online takes that part of a delivery.
local LOOKS_PER_DELIVERY = 4
-- The offline members of larger groups are not named.
local MAX_NAMED = 2000
local EVERYBODY = '*'

-- In one outbox entry: archivers bound how many entries they read, before they know how large these are.
local MAX_TOGETHER, MAX_BYTES_TOGETHER = 64, 16384

local tells_stored, tells_offline = is_asked_for('message.stored'), is_asked_for('message.offline')
local repeat_until = digits((time[1] + repeat_seconds) * 1000)
local entries = (#ARGV - FIRST_ARGUMENT + 1) / 4
local dormant, blockers = {}, nil
if redis.call('EXISTS', dormant_key, blocks_prefix) > 0 then
  local receivers = {}
  for argument = FIRST_ARGUMENT, #ARGV, 4 do
    if ARGV[argument] == 'inbox' then
      for uid in string.gmatch(ARGV[argument + 1], '%d+') do
        receivers[#receivers + 1] = uid
      end
    end
  end
  find_dormant(receivers, dormant)
  blockers = blockers_among(receivers)
end
redis.call('SET', clock_key, digits(last + entries))

local replies = {}
local deliveries = 0

-- The entry in hand: what must be undone if it fails, and is written with others if it does not. away: the receivers who
-- are offline, with spaces between ('': there are none).
local claimed, claimed_mid, record, written, away

local function undo(repeat_key, mid, timelines)
  erase(mid, timelines)
  take_off_links(mid)
  redis.call('DEL', repeat_key)
end

local function failed(failure)
  return 'FAILED ' .. (type(failure) == 'table' and failure.err or tostring(failure))
end

-- Messages whose bodies are not written yet, neither once for all their timelines nor for the archive.
local together, mids, lengths, places, undoing, bytes_together = {}, {}, {}, {}, {}, 0
-- And those that a receiver who is offline missed: the names of these, and the record.
local missed = {}

local function write_together()
  if #together == 0 then
    return
  end
  local data = table.concat(lengths, ' ') .. '\n' .. table.concat(together)
  local events_before = #events_put
  local ok, failure = pcall(write_bodies, mids, together, places)
  if ok and tells_stored then
    ok, failure = pcall(put_events, events_key, 'message.stored', together)
  end
  if ok then
    ok, failure = pcall(put_events, events_key, 'message.offline', missed)
  end
  if ok then
    ok, failure = pcall(put_into_outbox, mids[1] .. '-0', 'messages', data)
    if ok then
      ok, failure = pcall(write_links, mids[#mids])
      if not ok then
        take_from_outbox(mids[1] .. '-0', data)
      end
    end
  end
  if not ok then
    take_back_events(events_before)
    for index, each in ipairs(undoing) do
      local entry, repeat_key = unpack(each)
      undo(repeat_key, mids[index], places[index])
      replies[entry] = failed(failure)
    end
  end
  together, mids, lengths, places, undoing, bytes_together, missed = {}, {}, {}, {}, {}, 0, {}
end

-- Members of a write-mode group in this shard, and their names for waiting pulls. Read once for a batch.
local groups = {}
local function members_of(here_key)
  local group = groups[here_key]
  if not group then
    group = redis.call('ZRANGE', here_key, 0, -1)
    find_dormant(group, dormant)
    find_unseen(group, dormant)
    group.names, group.told = table.concat(group, ' '), false
    groups[here_key] = group
  end
  return group
end

-- The other shards that have members of a group, and how many members they have. Read once for a batch.
local elsewhere = {}
local function others_of(group_shards_key)
  local others = elsewhere[group_shards_key]
  if not others then
    others = { count = 0 }
    local counts = redis.call('HGETALL', group_shards_key)
    for index = 1, #counts, 2 do
      others[#others + 1] = tonumber(counts[index])
      others.count = others.count + tonumber(counts[index + 1])
    end
    elsewhere[group_shards_key] = others
  end
  return others
end

-- Those that all messages to everybody go to.
local all_others = {}
for shard = 1, shards - 1 do
  all_others[shard] = shard
end

-- The members of a group, or nil where its channel is written; or nothing and why it does not take the message.
local function admitted(key, channel, sender)
  local group = redis.call('HMGET', KEYS[key], 'mode', 'dismissed', 'muted_until', 'mutes_until')
  if not group[1] or group[2] then
    return nil, 'REFUSED unknown_group'
  end
  if sender ~= '0' and not redis.call('ZSCORE', KEYS[key + 1], sender) then
    return nil, 'REFUSED not_a_member'
  end
  if (group[3] or group[4]) and sender ~= '0' then
    if is_muted(KEYS[key], string.match(channel, '%d+$'), sender, group[3], group[4], now_ms) then
      return nil, 'REFUSED muted'
    end
  end
  return group[1] == 'write' and members_of(shards > 1 and here_prefix .. string.match(channel, '%d+$') or KEYS[key + 1]) or nil
end

-- The sender, and the name of their account in the minute in which the broker received the message.
local function sender_of(tail)
  local sender, received_at = string.match(tail, '^[^\n]*\n([^\n]*)\n[^\n]*\n(%d+)')
  return sender, digits(math.floor(tonumber(received_at) / 60000)) .. ':' .. sender
end

-- What those are told of whom nobody can name.
local everybody = tells_offline and EVERYBODY or ''

-- The receiver of a private message, if they are offline and did not send it.
local function offline_receiver(uid, tail)
  if not tells_offline or shards > 1 and shard_among(uid, shards) > 0 then
    return ''
  end
  return not is_online(uid) and sender_of(tail) ~= uid and uid or ''
end

-- Those members of a group in this shard who are offline, but for the sender; EVERYBODY where all shards have very many.
-- Looked up once for a batch.
local offline = {}
local function offline_members(members_key, here_key, members, sender)
  if not tells_offline then
    return ''
  end
  local names = offline[members_key]
  if not names then
    local count = members and shards == 1 and #members or redis.call('ZCARD', members_key)
    if count > MAX_NAMED then
      names = EVERYBODY
    else
      local found, uids = {}, members or redis.call('ZRANGE', here_key, 0, -1)
      look_up(uids)
      for _, uid in ipairs(uids) do
        if not is_online(uid) then
          found[#found + 1] = uid
        end
      end
      deliveries = deliveries + math.ceil(count / LOOKS_PER_DELIVERY)
      names = #found > 0 and ' ' .. table.concat(found, ' ') .. ' ' or ''
    end
    offline[members_key] = names
  end
  local first, last_of = string.find(names, ' ' .. sender .. ' ', 1, true)
  if first then
    return #names > last_of - first + 1 and string.sub(names, 1, first) .. string.sub(names, last_of + 1) or ''
  end
  return names
end

-- Writes one message into the inboxes of users or, where these are nil, into a channel. `item`, with the id and the record
-- behind, goes on the links of the shards `others`, and what `theirs` has by shard.
local function store(entry, repeat_key, uids, skipped, channel, channel_key, tail, receivers_away, others, item, theirs)
  local id = last + entry
  local mid = digits(id)
  if not redis.call('SET', repeat_key, mid, 'NX', 'PXAT', repeat_until) then
    return 'REPEATED ' .. redis.call('GET', repeat_key)
  end
  claimed, claimed_mid, record, written, away = repeat_key, mid, mid .. '\n' .. tail, {}, receivers_away
  if uids then
    write_inboxes(uids, skipped, mid, written)
  else
    write_channel(channel_key, mid, written)
    redis.call('HSET', heads_key, channel, mid)
  end
  if others then
    for _, shard in ipairs(others) do
      put_on_link(shard, mid, { item[1], item[2], mid, record, item[3], item[4] })
    end
  end
  if theirs then
    for shard, uids_there in pairs(theirs) do
      put_on_link(shard, mid, { 'inbox', uids_there, mid, record, tells_offline and event_limit })
    end
  end
  return id
end

-- Keeps the message in hand to be written with others, once nothing more of it can fail alone.
local function keep(entry)
  local count = #together + 1
  together[count] = record
  mids[count] = claimed_mid
  lengths[count] = digits(#record)
  places[count] = written
  undoing[count] = { entry, claimed }
  if away ~= '' then
    missed[#missed + 1] = away .. '\n' .. record
  end
  bytes_together = bytes_together + #record
end

-- A private message to somebody who blocks others, or of a sender whose account has to be looked at.
local function store_judged(entry, repeat_key, uids, tail, charge, receiver, theirs)
  local known = redis.call('GET', repeat_key)
  if known then
    return 'REPEATED ' .. known
  end
  local sender, account = sender_of(tail)
  if blockers and blockers[receiver] and is_blocked(receiver, sender) then
    return 'REFUSED blocked'
  end
  if charge ~= '' and is_spent(account) then
    return 'RATE'
  end
  local id =
    store(entry, repeat_key, uids, dormant, nil, nil, tail, offline_receiver(receiver, tail), nil, nil, theirs)
  if charge ~= '' then
    spend(account, tonumber(charge))
  end
  return id
end

local function store_for_group(entry, key, channel, tail, charge)
  local known = redis.call('GET', KEYS[key])
  if known then
    return 'REPEATED ' .. known
  end
  local sender, account = sender_of(tail)
  local members, refusal = admitted(key + 1, channel, sender)
  if refusal then
    return refusal
  end
  if charge ~= '' and is_spent(account) then
    return 'RATE'
  end
  local skipped = dormant
  if members and own_copies ~= '1' then
    skipped = setmetatable({ [sender] = true }, { __index = dormant })
  end
  deliveries = deliveries + (members and #members or 1)
  local gid = string.match(channel, '%d+$')
  local here_key = shards > 1 and here_prefix .. gid or KEYS[key + 2]
  local receivers_away = offline_members(KEYS[key + 2], here_key, members, sender)
  local others, item
  if shards > 1 then
    others = others_of(group_shards_prefix .. gid)
    local tells = tells_offline and receivers_away ~= EVERYBODY and event_limit
    item = { 'channel', channel, tells }
    if members then
      item = { 'group', gid, own_copies ~= '1' and sender or false, tells }
    end
  end
  local id = store(entry, KEYS[key], members, skipped, channel, KEYS[key + 3], tail, receivers_away, others, item)
  if charge ~= '' then
    local copies = #written + (others and (members and others.count or #others) or 0)
    spend(account, tonumber(charge) + math.max(min_charge, #record * 2 + copies * copy_bytes))
  end
  if not members then
    to_wake[#to_wake + 1] = channel
  elseif not members.told then
    members.told = true
    to_wake[#to_wake + 1] = members.names
  end
  return id
end

local function store_for_tag(entry, key, channel, tail)
  local known = redis.call('GET', KEYS[key])
  if known then
    return 'REPEATED ' .. known
  end
  local tag = redis.call('HMGET', KEYS[key + 1], 'made', 'deleted')
  if not tag[1] or tag[2] then
    return 'REFUSED unknown_tag'
  end
  to_wake[#to_wake + 1] = channel
  return store(entry, KEYS[key], nil, dormant, channel, KEYS[key + 2], tail, everybody, all_others, { 'channel', channel })
end

local key = FIRST_KEY
for entry = 1, entries do
  local argument = FIRST_ARGUMENT + entry * 4 - 4
  local kind, to, tail, charge = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
  local ok, reply = true, 'LATER'
  claimed = nil
  if kind == 'inbox' then
    local uid, other = string.match(to, '^(%d+) ?(%d*)$')
    local uids, theirs = by_shard({ uid, other ~= '' and other or nil })
    if charge == '' and not (blockers and blockers[uid]) then
      local away = offline_receiver(uid, tail)
      ok, reply = pcall(store, entry, KEYS[key], uids, dormant, nil, nil, tail, away, nil, nil, theirs)
    else
      ok, reply = pcall(store_judged, entry, KEYS[key], uids, tail, charge, uid, theirs)
    end
    to_wake[#to_wake + 1] = to
    key = key + 1
  elseif kind == 'group' then
    if deliveries < MAX_DELIVERIES then
      ok, reply = pcall(store_for_group, entry, key, to, tail, charge)
    end
    key = key + 4
  elseif kind == 'tag' then
    ok, reply = pcall(store_for_tag, entry, key, to, tail)
    key = key + 3
  else
    local item = { 'channel', to }
    ok, reply = pcall(store, entry, KEYS[key], nil, dormant, to, KEYS[key + 1], tail, everybody, all_others, item)
    to_wake[#to_wake + 1] = to
    key = key + 2
  end
  if not ok then
    if claimed then
      undo(claimed, claimed_mid, written)
    end
    reply = failed(reply)
  elseif claimed then
    keep(entry)
  end
  replies[entry] = reply
  if #together == MAX_TOGETHER or bytes_together >= MAX_BYTES_TOGETHER then
    write_together()
  end
end
write_together()
finish_events()
finish()
return { replies, links }
