-- Appends a batch of messages, each to any number of timelines, and to the outbox. Per entry it is all or nothing.
--
-- 1. Reserve the batch's ids by writing the clock first: whatever fails later, no id is given twice.
-- 2. Per entry: recognise a repeat; look whether a group takes the message, and who is in it; give the next id, write
--    the timelines (those of cold users are skipped: they read the archive when they are back), trim them, write the
--    outbox.
-- 3. Once so much was written to groups that others have waited long enough, later group messages are put off.
-- 4. Tell waiting pulls, once for the batch.
--
-- KEYS  1-8 as in include/batch.lua;
--       then per entry: repeat key, timelines; of a group: repeat key, group, its members, its channel; of a tag:
--       repeat key, tag, its channel
-- ARGV  1-5 as in include/batch.lua, 6 '1' if a sender has his own messages in his inbox;
--       then per entry: number of timelines (-1: a group, -2: a tag), channel name ('' for inboxes), outbox kind,
--       record without its id
-- Reply per entry: the id, if new; minus the id, if a repeat; 'LATER', if it was not reached; 'REFUSED <code>', if the
--       group does not take it, or there is no such tag; another text, if only this entry failed
-- Error EMPTY | BEHIND | OUTBOXFULL

-- include batch
-- include outbox
local FIRST_KEY, FIRST_ARGUMENT = 9, 7
local GROUP_KEYS, TAG_KEYS = 3, 2
local MOST_DELIVERIES, MOST_DELIVERED_BYTES = 2000, 4194304

local cold = {}
local entries = 0
do
  local receivers = {}
  local key, argument = FIRST_KEY, FIRST_ARGUMENT
  while argument <= #ARGV do
    entries = entries + 1
    local count = tonumber(ARGV[argument])
    if count < 0 then
      count = count == -1 and GROUP_KEYS or TAG_KEYS
    elseif ARGV[argument + 1] == '' then
      for index = key + 1, key + count do
        receivers[#receivers + 1] = string.sub(KEYS[index], #inbox_prefix + 1)
      end
    end
    key = key + 1 + count
    argument = argument + 4
  end
  look_for_cold(receivers, cold)
end
redis.call('SET', clock_key, digits(last + entries))

local deliveries, delivered_bytes = 0, 0

-- Members of a write-mode group: their inboxes, and their names for waiting pulls. Read once for a batch.
local groups = {}
local function members_of(members_key)
  local group = groups[members_key]
  if not group then
    local uids = redis.call('ZRANGE', members_key, 0, -1)
    look_for_cold(uids, cold)
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

local function append(id, key, count, channel, kind, tail)
  local repeat_key = KEYS[key]
  local mid = digits(id)
  local list, first, final = KEYS, key + 1, key + count
  local skipped = cold
  if count < 0 then
    local known = redis.call('GET', repeat_key)
    if known then
      return -tonumber(known)
    end
  end
  if count == -2 then
    local tag = redis.call('HMGET', KEYS[first], 'made', 'deleted')
    if not tag[1] or tag[2] then
      return 'REFUSED unknown_tag'
    end
    first, final = key + TAG_KEYS, key + TAG_KEYS
  elseif count == -1 then
    local sender = string.match(tail, '^[^\n]*\n([^\n]*)')
    local inboxes, refusal = admitted(key + 1, sender)
    if refusal then
      return refusal
    end
    if inboxes then
      list, first, final, channel = inboxes, 1, #inboxes, ''
      if ARGV[6] ~= '1' then
        skipped = setmetatable({ [inbox_prefix .. sender] = true }, { __index = cold })
      end
    else
      first, final = key + GROUP_KEYS, key + GROUP_KEYS
    end
    deliveries = deliveries + final - first + 1
    delivered_bytes = delivered_bytes + (final - first + 1) * #tail
  end
  local known = redis.call('SET', repeat_key, mid, 'NX', 'GET', 'EX', repeat_seconds)
  if known then
    return -tonumber(known)
  end
  local record = mid .. '\n' .. tail
  local written = {}
  local ok, failure = pcall(function()
    write(list, first, final, skipped, id, mid, record, written)
    if channel ~= '' then
      redis.call('HSET', heads_key, channel, mid)
    end
    put_into_outbox(mid .. '-0', kind, record)
  end)
  if not ok then
    for _, timeline in ipairs(written) do
      redis.call('ZREM', timeline, record)
    end
    redis.call('DEL', repeat_key)
    error(failure)
  end
  if channel ~= '' then
    news[#news + 1] = channel
  elseif list ~= KEYS then
    if not list.told then
      list.told = true
      news[#news + 1] = list.names
    end
  else
    for _, timeline in ipairs(written) do
      news[#news + 1] = string.sub(timeline, #inbox_prefix + 1)
    end
  end
  return id
end

local replies = {}
local key, argument = FIRST_KEY, FIRST_ARGUMENT
for entry = 1, entries do
  local count = tonumber(ARGV[argument])
  if count == -1 and (deliveries >= MOST_DELIVERIES or delivered_bytes >= MOST_DELIVERED_BYTES) then
    replies[entry] = 'LATER'
  else
    local ok, reply =
      pcall(append, last + entry, key, count, ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3])
    if not ok then
      reply = 'FAILED ' .. (type(reply) == 'table' and reply.err or tostring(reply))
    end
    replies[entry] = reply
  end
  key = key + 1 + (count == -1 and GROUP_KEYS or count == -2 and TAG_KEYS or count)
  argument = argument + 4
end
finish()
return replies
