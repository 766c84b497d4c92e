-- Appends a batch of messages, each to any number of timelines, and to the outbox. Per entry it is all or nothing.
--
-- 1. No epoch: the store is empty, refuse. Outbox over its limit: refuse.
-- 2. Reserve the batch's ids by writing the clock first: whatever fails later, no id is given twice.
-- 3. Per entry: recognise a repeat, give the next id, write the timelines, trim them, write the outbox.
-- 4. Tell waiting pulls, once for the batch.
--
-- KEYS  1 epoch, 2 clock, 3 outbox, 4 outbox bytes, 5 heads, 6 news (Pub/Sub channel);
--       then per entry: repeat key, timelines
-- ARGV  1 caller's time (us), 2 window (us), 3 seconds a repeat is recognised, 4 outbox limit (bytes),
--       5 names of all timelines, for the news;
--       then per entry: number of timelines, channel name ('' for inboxes), outbox kind, record without its id
-- Reply per entry: the id, if new; minus the id, if a repeat; an error text, if only this entry failed
-- Error EMPTY | OUTBOXFULL

local epoch_key, clock_key, outbox_key, outbox_bytes_key, heads_key, news_channel =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local window, repeat_seconds = tonumber(ARGV[2]), ARGV[3]

local state = redis.call('MGET', epoch_key, clock_key, outbox_bytes_key)
if not state[1] then
  return redis.error_reply('EMPTY no epoch')
end
if tonumber(state[3] or 0) >= tonumber(ARGV[4]) then
  return redis.error_reply('OUTBOXFULL')
end

-- A forward step of this host's clock must not trim a week away: the caller's clock bounds it.
local time = redis.call('TIME')
local now = math.min(time[1] * 1000000 + time[2], tonumber(ARGV[1]) + 5000000)
local last = math.max(now - 1, tonumber(state[2] or 0))

local entries = 0
do
  local key, argument = 7, 6
  while argument <= #ARGV do
    entries = entries + 1
    key = key + 1 + ARGV[argument]
    argument = argument + 4
  end
end
redis.call('SET', clock_key, string.format('%.0f', last + entries))

local trim_below = string.format('(%.0f', now - window - 60000000)
local expire_seconds = string.format('%.0f', math.ceil(window / 1000000) + 3600)
local outbox_bytes = 0
local news = false

local function append(id, repeat_key, first, count, channel, kind, tail)
  local mid = string.format('%.0f', id)
  local known = redis.call('SET', repeat_key, mid, 'NX', 'GET', 'EX', repeat_seconds)
  if known then
    return -tonumber(known)
  end
  local record = mid .. '\n' .. tail
  local done = 0
  local ok, failure = pcall(function()
    for index = first, first + count - 1 do
      redis.call('ZADD', KEYS[index], mid, record)
      done = done + 1
      -- A large fan-out trims a sixteenth of its inboxes each time; pulls trim always.
      if count <= 16 or (index + id) % 16 == 0 then
        redis.call('ZREMRANGEBYSCORE', KEYS[index], '-inf', trim_below)
      end
      redis.call('EXPIRE', KEYS[index], expire_seconds)
    end
    if channel ~= '' then
      redis.call('HSET', heads_key, channel, mid)
    end
    redis.call('XADD', outbox_key, mid .. '-0', 'k', kind, 'd', record)
  end)
  if ok then
    outbox_bytes = outbox_bytes + #record + 64
    news = true
    return id
  end
  for index = first, first + done - 1 do
    redis.call('ZREM', KEYS[index], record)
  end
  redis.call('DEL', repeat_key)
  if type(failure) == 'table' then
    failure = failure.err
  end
  return 'FAILED ' .. tostring(failure)
end

local replies = {}
local key, argument = 7, 6
for entry = 1, entries do
  local count = tonumber(ARGV[argument])
  local ok, reply = pcall(
    append, last + entry, KEYS[key], key + 1, count, ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
  )
  if not ok and type(reply) == 'table' then
    reply = reply.err
  end
  replies[entry] = ok and reply or ('FAILED ' .. tostring(reply))
  key = key + 1 + count
  argument = argument + 4
end
if outbox_bytes > 0 then
  redis.call('INCRBY', outbox_bytes_key, outbox_bytes)
end
if news then
  redis.call('PUBLISH', news_channel, ARGV[5])
end
return replies
