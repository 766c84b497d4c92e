-- What a batch of writes begins and ends with, whatever it writes; and how a record gets into inboxes and channels.
--
-- 1. No epoch: the store is empty, refuse. A clock below an id the caller was given: it was restored to an older
--    state, refuse. Outbox over its limit: refuse.
-- 2. Ids are given from `last` + 1 on. The script reserves them by writing the clock before anything else.
--
-- `highest_id` is the highest that the caller was given.
--
-- KEYS epoch clock outbox_bytes dormant inbox_prefix seen unseen
-- ARGV caller_time:us window:us outbox_limit:bytes highest_id:us
-- REPLY -
-- ERROR EMPTY BEHIND OUTBOXFULL

local state = redis.call('MGET', epoch_key, clock_key, outbox_bytes_key)
if not state[1] then
  return redis.error_reply('EMPTY no epoch')
end
if tonumber(state[2] or 0) < highest_id then
  return redis.error_reply('BEHIND the clock is below an id that was given')
end
if tonumber(state[3] or 0) >= outbox_limit then
  return redis.error_reply('OUTBOXFULL')
end

-- A forward step of this host's clock must not trim a week away: the caller's clock bounds it.
local time = redis.call('TIME')
local now = math.min(time[1] * 1000000 + time[2], caller_time + 5000000)
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

