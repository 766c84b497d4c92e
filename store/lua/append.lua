-- Appends a batch of messages, each to any number of timelines, and to the outbox. Per entry it is all or nothing.
--
-- 1. No epoch: the store is empty, refuse. A clock below an id the caller was given: it was restored to an older
--    state, refuse. Outbox over its limit: refuse.
-- 2. Reserve the batch's ids by writing the clock first: whatever fails later, no id is given twice.
-- 3. Per entry: recognise a repeat, give the next id, write the timelines (those of cold users are skipped: they read
--    the archive when they are back), trim them, write the outbox.
-- 4. Tell waiting pulls, once for the batch.
--
-- KEYS  1 epoch, 2 clock, 3 outbox, 4 outbox bytes, 5 heads, 6 news (Pub/Sub channel), 7 asleep,
--       8 what inboxes' names start with; then per entry: repeat key, timelines
-- ARGV  1 caller's time (us), 2 window (us), 3 seconds a repeat is recognised, 4 outbox limit (bytes),
--       5 highest id the caller was given;
--       then per entry: number of timelines, channel name ('' for inboxes), outbox kind, record without its id
-- Reply per entry: the id, if new; minus the id, if a repeat; an error text, if only this entry failed
-- Error EMPTY | BEHIND | OUTBOXFULL

local epoch_key, clock_key, outbox_key, outbox_bytes_key, heads_key, news_channel, asleep_key, inbox_prefix =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local FIRST_KEY, FIRST_ARGUMENT = 9, 6
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

-- Who gets something in this batch, and who of them is cold.
local entries, receivers = 0, {}
do
  local key, argument = FIRST_KEY, FIRST_ARGUMENT
  while argument <= #ARGV do
    entries = entries + 1
    local count = tonumber(ARGV[argument])
    if ARGV[argument + 1] == '' then
      for index = key + 1, key + count do
        receivers[#receivers + 1] = string.sub(KEYS[index], #inbox_prefix + 1)
      end
    end
    key = key + 1 + count
    argument = argument + 4
  end
end
local cold = {}
if #receivers > 0 and redis.call('EXISTS', asleep_key) == 1 then
  for first = 1, #receivers, 5000 do
    local since = redis.call('HMGET', asleep_key, unpack(receivers, first, math.min(first + 4999, #receivers)))
    for index, boundary in ipairs(since) do
      if boundary == '0' then
        cold[inbox_prefix .. receivers[first + index - 1]] = true
      end
    end
  end
end
redis.call('SET', clock_key, string.format('%.0f', last + entries))

local trim_below = string.format('(%.0f', now - window - 60000000)
-- A timeline expires an hour after the window. Asking is cheaper than setting, which goes to the AOF each time.
local expire_seconds = math.ceil(window / 1000000) + 3600
local expires_soon = expire_seconds - 1800
local outbox_bytes = 0
local news = {}

local function append(id, repeat_key, first, count, channel, kind, tail)
  local mid = string.format('%.0f', id)
  local known = redis.call('SET', repeat_key, mid, 'NX', 'GET', 'EX', repeat_seconds)
  if known then
    return -tonumber(known)
  end
  local record = mid .. '\n' .. tail
  local written = {}
  local ok, failure = pcall(function()
    for index = first, first + count - 1 do
      local timeline = KEYS[index]
      if not cold[timeline] then
        redis.call('ZADD', timeline, mid, record)
        written[#written + 1] = timeline
        -- A large fan-out trims a sixteenth of its inboxes each time; pulls trim always.
        if count <= 16 or (index + id) % 16 == 0 then
          redis.call('ZREMRANGEBYSCORE', timeline, '-inf', trim_below)
        end
        if redis.call('TTL', timeline) < expires_soon then
          redis.call('EXPIRE', timeline, expire_seconds)
        end
      end
    end
    if channel ~= '' then
      redis.call('HSET', heads_key, channel, mid)
    end
    redis.call('XADD', outbox_key, mid .. '-0', 'k', kind, 'd', record)
  end)
  if not ok then
    for _, timeline in ipairs(written) do
      redis.call('ZREM', timeline, record)
    end
    redis.call('DEL', repeat_key)
    error(failure)
  end
  outbox_bytes = outbox_bytes + #record + 64
  if channel ~= '' then
    news[#news + 1] = channel
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
  local ok, reply = pcall(
    append, last + entry, KEYS[key], key + 1, count, ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
  )
  if not ok then
    reply = 'FAILED ' .. (type(reply) == 'table' and reply.err or tostring(reply))
  end
  replies[entry] = reply
  key = key + 1 + count
  argument = argument + 4
end
if outbox_bytes > 0 then
  redis.call('INCRBY', outbox_bytes_key, outbox_bytes)
end
if #news > 0 then
  redis.call('PUBLISH', news_channel, table.concat(news, ' '))
end
return replies
