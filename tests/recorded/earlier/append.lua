-- Appends a batch of messages, each to any number of timelines, and to the outbox. Per entry it is all or nothing.
--
-- 1. Reserve the batch's ids by writing the clock first: whatever fails later, no id is given twice.
-- 2. Per entry: recognise a repeat; look whether a group takes the message, and who is in it, or whether there is such
--    a tag, and whether the sender may write so much, where that is to be judged; give the next id, write the timelines
--    (those of dormant users, and of users who were never seen, are skipped: they read the archive when they come).
-- 3. Once so much was written to groups that others have waited long enough, later group messages are put off.
-- 4. Write the outbox: as few entries as hold all messages, each under the id of its first message.
-- 5. Tell waiting pulls, once for the batch.
--
-- KEYS  1-10 as in include/batch.lua, 11 what the names of accounts start with;
--       then per entry: repeat key; of one to a channel also the channel, of one to a group: group, its members, its
--       channel, of one to a tag: tag, its channel
-- ARGV  1-5 as in include/batch.lua, 6 '1' if a sender has his own messages in his inbox, 7 most bytes that a sender
--       writes in a minute, 8 what a message takes of them at least;
--       then per entry: to whom (one or two uids with a space between, or the name of a channel), record without its id,
--       bytes that the sender's account is charged with ('': that is not judged; a group's are added to them here)
-- Reply per entry: the id, if new; minus the id, if a repeat; 'LATER', if it was not reached; 'REFUSED <code>', if the
--       group does not take it, or there is no such tag; 'RATE', if the sender may write no more in that minute;
--       another text, if only this entry failed
-- Error EMPTY | BEHIND | OUTBOXFULL

-- What a batch of writes begins and ends with, whatever it writes; and how a record gets into inboxes and channels.
--
-- 1. No epoch: the store is empty, refuse. A clock below an id the caller was given: it was restored to an older
--    state, refuse. Outbox over its limit: refuse.
-- 2. Ids are given from `last` + 1 on. The script reserves them by writing the clock before anything else.
--
-- KEYS  1 epoch, 2 clock, 3 outbox, 4 outbox bytes, 5 heads, 6 news (Pub/Sub channel), 7 dormant,
--       8 what inboxes' names start with, 9 seen, 10 unseen
-- ARGV  1 caller's time (us), 2 window (us), 3 seconds a repeat is recognised, 4 outbox limit (bytes),
--       5 highest id the caller was given
-- Error EMPTY | BEHIND | OUTBOXFULL

local epoch_key, clock_key, outbox_key, outbox_bytes_key, heads_key, news_channel, dormant_key, inbox_prefix =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local seen_key, unseen_key = KEYS[9], KEYS[10]
local window, repeat_seconds = tonumber(ARGV[2]), ARGV[3]

local state = redis.call('MGET', epoch_key, clock_key, outbox_bytes_key)
if not state[1] then
  return redis.error_reply('EMPTY no epoch')
end
if tonumber(state[2] or 0) < tonumber(ARGV[5]) then
  return redis.error_reply('BEHIND the clock is below an id that was given')
end
if tonumber(state[3] or 0) >= tonumber(ARGV[4]) then
  return redis.error_reply('OUTBOXFULL')
end

-- A forward step of this host's clock must not trim a week away: the caller's clock bounds it.
local time = redis.call('TIME')
local now = math.min(time[1] * 1000000 + time[2], tonumber(ARGV[1]) + 5000000)
local last = math.max(now - 1, tonumber(state[2] or 0))

local trim_below = string.format('(%.0f', now - window - 60000000)
-- A timeline expires an hour after the window. Asking is cheaper than setting, which goes to the AOF each time.
local expire_seconds = math.ceil(window / 1000000) + 3600
local expires_soon = expire_seconds - 1800

-- Adds to `dormant` the inboxes of those users who are dormant.
local function find_dormant(uids, dormant)
  if #uids == 0 or redis.call('EXISTS', dormant_key) == 0 then
    return
  end
  for first = 1, #uids, 5000 do
    local since = redis.call('HMGET', dormant_key, unpack(uids, first, math.min(first + 4999, #uids)))
    for index, boundary in ipairs(since) do
      if boundary == '0' then
        dormant[inbox_prefix .. uids[first + index - 1]] = true
      end
    end
  end
end

-- Users who were never seen have no inbox until they are: they find what is skipped in the archive, as those who are
-- dormant do. When one was last skipped says how long that matters; for many at once it is noted each hour.
local now_ms = math.floor(now / 1000)
local NOTED_MS = 3600000

-- Adds to `dormant` the inboxes of those users who are known to be unseen.
local function find_unseen(uids, dormant)
  if #uids == 0 or redis.call('EXISTS', unseen_key) == 0 then
    return
  end
  for first = 1, #uids, 3000 do
    local skipped = redis.call('ZMSCORE', unseen_key, unpack(uids, first, math.min(first + 2999, #uids)))
    local stale = {}
    for index, at in ipairs(skipped) do
      if at then
        local uid = uids[first + index - 1]
        dormant[inbox_prefix .. uid] = true
        if tonumber(at) < now_ms - NOTED_MS then
          stale[#stale + 1] = now_ms
          stale[#stale + 1] = uid
        end
      end
    end
    if #stale > 0 then
      redis.call('ZADD', unseen_key, unpack(stale))
    end
  end
end

-- Whether a timeline that was made just now is the inbox of a user who was never seen: then it goes again.
local function is_unseen(timeline)
  if string.sub(timeline, 1, #inbox_prefix) ~= inbox_prefix or redis.call('ZCARD', timeline) > 1 then
    return false
  end
  local uid = string.sub(timeline, #inbox_prefix + 1)
  if redis.call('ZSCORE', seen_key, uid) then
    return false
  end
  redis.call('DEL', timeline)
  redis.call('ZADD', unseen_key, now_ms, uid)
  return true
end

-- Writes a record into the timelines of a list, but for those to be skipped; what was written is added to `written`.
-- A timeline is trimmed whenever it is written; one of a large fan-out when its expiry is renewed, each half hour at
-- most. Pulls trim always.
local LARGE = 16
local function write(list, skipped, mid, record, written)
  local few = #list <= LARGE
  for _, timeline in ipairs(list) do
    if not skipped[timeline] then
      redis.call('ZADD', timeline, mid, record)
      local left = redis.call('TTL', timeline)
      local renewed = left < expires_soon
      if left == -1 and is_unseen(timeline) then
        skipped[timeline] = true
      else
        written[#written + 1] = timeline
        if few or renewed then
          redis.call('ZREMRANGEBYSCORE', timeline, '-inf', trim_below)
        end
        if renewed then
          redis.call('EXPIRE', timeline, expire_seconds)
        end
      end
    end
  end
end

-- Writing the outbox, and telling waiting pulls once at the end.
--
-- Expects outbox_key, outbox_bytes_key, news_channel

local outbox_bytes = 0
local news = {}

-- Of a whole number: `%.0f` takes a message three percent more instructions.
local function digits(number)
  return string.format('%d', number)
end

local function put_into_outbox(entry_id, kind, data)
  redis.call('XADD', outbox_key, entry_id, 'k', kind, 'd', data)
  outbox_bytes = outbox_bytes + #data + 64
end

-- Counts what went into the outbox, and tells those named in `news`.
local function finish()
  if outbox_bytes > 0 then
    redis.call('INCRBY', outbox_bytes_key, outbox_bytes)
  end
  if #news > 0 then
    redis.call('PUBLISH', news_channel, table.concat(news, ' '))
  end
end

local budget_prefix, budget_most, budget_least = KEYS[11], tonumber(ARGV[7]), tonumber(ARGV[8])
-- What one sender may write in a minute: an account of bytes. An account is named by the minute in which the broker received
-- the message, and the sender.
--
-- Expects budget_prefix, budget_most

local function is_spent(account)
  return tonumber(redis.call('GET', budget_prefix .. account) or 0) >= budget_most
end

-- It is kept for that minute, and as long for what comes late.
local function spend(account, bytes)
  local key = budget_prefix .. account
  if redis.call('INCRBY', key, digits(bytes)) == bytes then
    redis.call('EXPIRE', key, 120)
  end
end
local FIRST_KEY, FIRST_ARGUMENT = 12, 9
local MAX_DELIVERIES, MAX_DELIVERED_BYTES = 2000, 4194304

-- In one outbox entry: archivers bound how many entries they read, before they know how large these are.
local MAX_TOGETHER, MAX_BYTES_TOGETHER = 64, 16384

local repeat_until = digits((time[1] + repeat_seconds) * 1000)
local entries = (#ARGV - FIRST_ARGUMENT + 1) / 3
local dormant = {}
if redis.call('EXISTS', dormant_key) == 1 then
  local receivers = {}
  for argument = FIRST_ARGUMENT, #ARGV, 3 do
    for uid in string.gmatch(string.match(ARGV[argument], '^%d[%d ]*$') or '', '%d+') do
      receivers[#receivers + 1] = uid
    end
  end
  find_dormant(receivers, dormant)
end
redis.call('SET', clock_key, digits(last + entries))

local replies = {}
local deliveries, delivered_bytes = 0, 0

-- The entry in hand: what must be undone if it fails.
local claimed, record, written

local function undo(repeat_key, message, timelines)
  for _, timeline in ipairs(timelines) do
    redis.call('ZREM', timeline, message)
  end
  redis.call('DEL', repeat_key)
end

local function failed(failure)
  return 'FAILED ' .. (type(failure) == 'table' and failure.err or tostring(failure))
end

-- Messages that are not in the outbox yet.
local together, lengths, undoing, first_mid, bytes_together = {}, {}, {}, nil, 0

local function write_outbox()
  if #together == 0 then
    return
  end
  local data = table.concat(lengths, ' ') .. '\n' .. table.concat(together)
  local ok, failure = pcall(put_into_outbox, first_mid .. '-0', 'messages', data)
  if not ok then
    for index, each in ipairs(undoing) do
      local entry, repeat_key, timelines = unpack(each)
      undo(repeat_key, together[index], timelines)
      replies[entry] = failed(failure)
    end
  end
  together, lengths, undoing, bytes_together = {}, {}, {}, 0
end

-- Members of a write-mode group: their inboxes, and their names for waiting pulls. Read once for a batch.
local groups = {}
local function members_of(members_key)
  local group = groups[members_key]
  if not group then
    local uids = redis.call('ZRANGE', members_key, 0, -1)
    find_dormant(uids, dormant)
    find_unseen(uids, dormant)
    group = { names = table.concat(uids, ' '), told = false }
    for index, uid in ipairs(uids) do
      group[index] = inbox_prefix .. uid
    end
    groups[members_key] = group
  end
  return group
end

-- The inboxes of a group, or nil where its channel is written; or nothing and why it does not take the message.
local function admitted(key, sender)
  local group = redis.call('HMGET', KEYS[key], 'mode', 'dismissed')
  if not group[1] or group[2] then
    return nil, 'REFUSED unknown_group'
  end
  if sender ~= '0' and not redis.call('ZSCORE', KEYS[key + 1], sender) then
    return nil, 'REFUSED not_a_member'
  end
  return group[1] == 'write' and members_of(KEYS[key + 1]) or nil
end

-- Writes one message into timelines, `channel` is its name if they are one, and keeps it for the outbox.
local function store(entry, repeat_key, timelines, skipped, channel, tail)
  local id = last + entry
  local mid = digits(id)
  if not redis.call('SET', repeat_key, mid, 'NX', 'PXAT', repeat_until) then
    return -tonumber(redis.call('GET', repeat_key))
  end
  claimed, record, written = repeat_key, mid .. '\n' .. tail, {}
  write(timelines, skipped, mid, record, written)
  if channel then
    redis.call('HSET', heads_key, channel, mid)
  end
  local count = #together + 1
  if count == 1 then
    first_mid = mid
  end
  together[count] = record
  lengths[count] = digits(#record)
  undoing[count] = { entry, repeat_key, written }
  bytes_together = bytes_together + #record
  return id
end

-- The sender, and the name of their account in the minute in which the broker received the message.
local function sender_of(tail)
  local sender, received_at = string.match(tail, '^[^\n]*\n([^\n]*)\n[^\n]*\n(%d+)')
  return sender, digits(math.floor(tonumber(received_at) / 60000)) .. ':' .. sender
end

-- A private message of a sender whose account has to be looked at.
local function store_judged(entry, repeat_key, timelines, tail, charge)
  local known = redis.call('GET', repeat_key)
  if known then
    return -tonumber(known)
  end
  local _, account = sender_of(tail)
  if is_spent(account) then
    return 'RATE'
  end
  local id = store(entry, repeat_key, timelines, dormant, nil, tail)
  spend(account, tonumber(charge))
  return id
end

local function store_for_group(entry, key, channel, tail, charge)
  local known = redis.call('GET', KEYS[key])
  if known then
    return -tonumber(known)
  end
  local sender, account = sender_of(tail)
  local inboxes, refusal = admitted(key + 1, sender)
  if refusal then
    return refusal
  end
  if charge ~= '' and is_spent(account) then
    return 'RATE'
  end
  local skipped = dormant
  if inboxes and ARGV[6] ~= '1' then
    skipped = setmetatable({ [inbox_prefix .. sender] = true }, { __index = dormant })
  end
  local timelines = inboxes or { KEYS[key + 3] }
  deliveries = deliveries + #timelines
  delivered_bytes = delivered_bytes + #timelines * #tail
  local id = store(entry, KEYS[key], timelines, skipped, not inboxes and channel, tail)
  if charge ~= '' then
    spend(account, tonumber(charge) + math.max(budget_least, #record * (#written + 1)))
  end
  if not inboxes then
    news[#news + 1] = channel
  elseif not inboxes.told then
    inboxes.told = true
    news[#news + 1] = inboxes.names
  end
  return id
end

local function store_for_tag(entry, key, channel, tail)
  local known = redis.call('GET', KEYS[key])
  if known then
    return -tonumber(known)
  end
  local tag = redis.call('HMGET', KEYS[key + 1], 'made', 'deleted')
  if not tag[1] or tag[2] then
    return 'REFUSED unknown_tag'
  end
  news[#news + 1] = channel
  return store(entry, KEYS[key], { KEYS[key + 2] }, dormant, channel, tail)
end

local key = FIRST_KEY
for entry = 1, entries do
  local argument = FIRST_ARGUMENT + entry * 3 - 3
  local to, tail, charge = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2]
  local uid, other = string.match(to, '^(%d+) ?(%d*)$')
  local ok, reply = true, 'LATER'
  claimed = nil
  if uid then
    local inboxes = { inbox_prefix .. uid, other ~= '' and inbox_prefix .. other or nil }
    if charge == '' then
      ok, reply = pcall(store, entry, KEYS[key], inboxes, dormant, nil, tail)
    else
      ok, reply = pcall(store_judged, entry, KEYS[key], inboxes, tail, charge)
    end
    news[#news + 1] = to
    key = key + 1
  elseif string.sub(to, 1, 6) == 'group:' then
    if deliveries < MAX_DELIVERIES and delivered_bytes < MAX_DELIVERED_BYTES then
      ok, reply = pcall(store_for_group, entry, key, to, tail, charge)
    end
    key = key + 4
  elseif string.sub(to, 1, 4) == 'tag_' then
    ok, reply = pcall(store_for_tag, entry, key, to, tail)
    key = key + 3
  else
    ok, reply = pcall(store, entry, KEYS[key], { KEYS[key + 1] }, dormant, to, tail)
    news[#news + 1] = to
    key = key + 2
  end
  if not ok then
    if claimed then
      undo(claimed, record, written)
    end
    reply = failed(reply)
  end
  replies[entry] = reply
  if #together == MAX_TOGETHER or bytes_together >= MAX_BYTES_TOGETHER then
    write_outbox()
  end
end
write_outbox()
finish()
return replies
