-- What a batch of writes begins and ends with, whatever it writes; and how a record gets into inboxes and channels.
--
-- 1. No epoch: the store is empty, refuse. A clock below an id the caller was given: it was restored to an older
--    state, refuse. Outbox over its limit: refuse.
-- 2. Ids are given from `last` + 1 on. The script reserves them by writing the clock before anything else.
--
-- KEYS  1 epoch, 2 clock, 3 outbox, 4 outbox bytes, 5 heads, 6 news (Pub/Sub channel), 7 dormant,
--       8 what inboxes' names start with
-- ARGV  1 caller's time (us), 2 window (us), 3 seconds a repeat is recognised, 4 outbox limit (bytes),
--       5 highest id the caller was given
-- Error EMPTY | BEHIND | OUTBOXFULL

local epoch_key, clock_key, outbox_key, outbox_bytes_key, heads_key, news_channel, dormant_key, inbox_prefix =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
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

-- Writes a record into the timelines of a list, but for those to be skipped; what was written is added to `written`.
-- A timeline is trimmed whenever it is written; one of a large fan-out when its expiry is renewed, each half hour at
-- most. Pulls trim always.
local LARGE = 16
local function write(list, skipped, mid, record, written)
  local few = #list <= LARGE
  for _, timeline in ipairs(list) do
    if not skipped[timeline] then
      redis.call('ZADD', timeline, mid, record)
      written[#written + 1] = timeline
      local renewed = redis.call('TTL', timeline) < expires_soon
      if few or renewed then
        redis.call('ZREMRANGEBYSCORE', timeline, '-inf', trim_below)
      end
      if renewed then
        redis.call('EXPIRE', timeline, expire_seconds)
      end
    end
  end
end

