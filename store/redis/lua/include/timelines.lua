-- What a shard's timelines are written with: how a record gets into inboxes and channels, and what is kept of it.
--
-- No epoch: the store is empty, refuse.
--
-- include bodies
-- KEYS epoch clock outbox_bytes window shards link_bytes dormant inbox_prefix seen unseen
-- ARGV caller_time:us window:us
-- REPLY -
-- ERROR EMPTY

-- Only the home has an outbox, and links.
local state = redis.call('MGET', epoch_key, clock_key, outbox_bytes_key, window_key, shards_key, link_bytes_key)
if not state[1] then
  return redis.error_reply('EMPTY no epoch')
end

-- A forward step of this host's clock must not trim a week away: the caller's clock bounds it.
local time = redis.call('TIME')
local now = math.min(time[1] * 1000000 + time[2], caller_time + 5000000)

-- Another process may have put back more than this one keeps, and pulls rely on that.
window = math.max(window, tonumber(state[4] or 0))

-- Nothing goes that pulls rely on: their window begins at the store's clock, which never falls back, should all other
-- clocks have been ahead for a while.
local window_edge = math.min(now, tonumber(state[2] or 0)) - window - 60000000
local trim_below = string.format('(%.0f', window_edge)
-- A channel expires a day after the window, as bodies do. Asking is cheaper than setting, which goes to the AOF each time.
local expire_seconds = math.ceil(window / 1000000) + MARGIN_SECONDS
local expires_soon = expire_seconds - 1800

-- Adds to `dormant` those users who are.
local function find_dormant(uids, dormant)
  if #uids == 0 or redis.call('EXISTS', dormant_key) == 0 then
    return
  end
  for first = 1, #uids, 5000 do
    local since = redis.call('HMGET', dormant_key, unpack(uids, first, math.min(first + 4999, #uids)))
    for index, boundary in ipairs(since) do
      if boundary == '0' then
        dormant[uids[first + index - 1]] = true
      end
    end
  end
end

-- Users who were never seen have no inbox until they are: they find what is skipped in the archive, as those who are
-- dormant do. When one was last skipped says how long that matters; for many at once it is noted each hour.
local now_ms = math.floor(now / 1000)
local NOTED_MS = 3600000

-- Adds to `dormant` those users who are known to be unseen.
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
        dormant[uid] = true
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

-- Whether a user who has no inbox yet was never seen: then they do not get one.
local function is_unseen(uid)
  if redis.call('ZSCORE', seen_key, uid) then
    return false
  end
  redis.call('ZADD', unseen_key, now_ms, uid)
  return true
end

-- The names of those that have left the window by now: as many as leave it in a day, for they expire after that.
local function outdated(prefix)
  local newest = math.floor(window_edge / 1000000 / SPAN_SECONDS) - 1
  local names = {}
  for number = math.max(newest - math.ceil(MARGIN_SECONDS / SPAN_SECONDS), 0), newest do
    names[#names + 1] = prefix .. number
  end
  return names
end

-- A user's inbox has got its first message of a span.
local function begin_inbox(uid, inbox, span)
  redis.call('EXPIRE', inbox, inbox_expires_in(uid, span, window - now))
  local old = outdated(inbox_prefix .. uid .. ':')
  if #old > 0 then
    redis.call('UNLINK', unpack(old))
  end
end

-- Inboxes that are looked for together: asking for each takes as long as writing it.
local TOGETHER = 100

-- The names of users' inboxes of a span, but for those to be skipped; and by the name of each that is not there yet
-- whose it is.
local function find_inboxes(uids, skipped, span)
  local inboxes, owners, missing = {}, {}, {}
  for first = 1, #uids, TOGETHER do
    local names = {}
    for index = first, math.min(first + TOGETHER - 1, #uids) do
      local uid = uids[index]
      if not skipped[uid] then
        names[#names + 1] = inbox_prefix .. uid .. ':' .. span
        owners[#names] = uid
      end
    end
    local there = #names > 0 and redis.call('EXISTS', unpack(names)) or 0
    for index, inbox in ipairs(names) do
      local uid = owners[index]
      if there == #names or there > 0 and redis.call('EXISTS', inbox) == 1 then
        inboxes[#inboxes + 1] = inbox
      elseif is_unseen(uid) then
        skipped[uid] = true
      else
        inboxes[#inboxes + 1] = inbox
        missing[inbox] = uid
      end
    end
  end
  return inboxes, missing
end

-- By list of users what was found, once all of it is there: a group's next message of this batch does not look again.
local found = {}

-- Writes an id into the inboxes of users, but for those to be skipped; what was written is added to `written`.
local function write_inboxes(uids, skipped, mid, written)
  local span, known = span_of(mid), found[uids]
  local inboxes, missing
  if known and known.span == span and known.skipped == skipped then
    inboxes, missing = known.inboxes, {}
  else
    inboxes, missing = find_inboxes(uids, skipped, span)
  end
  for _, inbox in ipairs(inboxes) do
    redis.call('ZADD', inbox, mid, mid)
    written[#written + 1] = inbox
    if missing[inbox] then
      begin_inbox(missing[inbox], inbox, span)
    end
  end
  if #uids > 2 then
    found[uids] = { span = span, skipped = skipped, inboxes = inboxes }
  end
end

-- Writes an id into a channel, which is trimmed whenever it is written. Pulls trim nothing there.
local function write_channel(channel_key, mid, written)
  redis.call('ZADD', channel_key, mid, mid)
  written[#written + 1] = channel_key
  redis.call('ZREMRANGEBYSCORE', channel_key, '-inf', trim_below)
  if redis.call('TTL', channel_key) < expires_soon then
    redis.call('EXPIRE', channel_key, expire_seconds)
  end
end

-- Writes bodies of one span. With the first ones of a span those go that have left the window.
local function write_span(span, fields)
  local bodies = bodies_prefix .. span
  redis.call('HSET', bodies, unpack(fields))
  if redis.call('TTL', bodies) == -1 then
    redis.call('EXPIRE', bodies, span_expires_in(span, window - now))
    local old = outdated(bodies_prefix)
    if #old > 0 then
      redis.call('UNLINK', unpack(old))
    end
  end
end

-- Writes the bodies of ids in order, each once for all timelines; those that no timeline has are not wanted.
-- written: per id the timelines that it was written to.
local function write_bodies(mids, records, written)
  local span, fields
  for index, mid in ipairs(mids) do
    if #written[index] > 0 then
      if span_of(mid) ~= span then
        if span then
          write_span(span, fields)
        end
        span, fields = span_of(mid), {}
      end
      fields[#fields + 1] = mid
      fields[#fields + 1] = records[index]
    end
  end
  if span then
    write_span(span, fields)
  end
end

-- As if the message had not been written.
local function erase(mid, written)
  for _, timeline in ipairs(written) do
    redis.call('ZREM', timeline, mid)
  end
  found = {}
  redis.pcall('HDEL', bodies_prefix .. span_of(mid), mid)
end
