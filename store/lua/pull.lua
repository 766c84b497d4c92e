-- Reads what one user has not seen: his inbox and the channels he reads, each from the cursor on, and marks him seen.
--
-- A cold user is made warm: from this clock on his inbox is written again, what lies before is in the archive. The
-- boundary says from where on Redis is complete for this user; records below it are not given, even if they are there.
--
-- KEYS  1 epoch, 2 clock, 3 heads, 4 outbox, 5 asleep, 6 seen, 7 inbox; then channels
-- ARGV  1 cursor (us), 2 most records of each source, 3 most bytes of each source, 4 caller's time (us), 5 window (us),
--       6 the epoch the client knows ('' for none), 7 uid, 8 how fresh "seen" is kept (ms); then the channels' names
-- Reply { epoch, clock, edge of the window, boundary, 1 if the cursor belongs to another epoch,
--         oldest id in the outbox ('' if it is empty or nothing is missing below the boundary),
--         { 1 if cut before its end, record, … } for the inbox and for each channel with news }
--       A source that is not cut is complete up to the clock; one that is cut, up to its last record.
-- Error EMPTY

local epoch_key, clock_key, heads_key, outbox_key, asleep_key, seen_key, inbox_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local cursor, most_records, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local window, known_epoch, uid, seen_fresh = tonumber(ARGV[5]), ARGV[6], ARGV[7], tonumber(ARGV[8])
local FIRST_CHANNEL, FIRST_NAME = 8, 9

local state = redis.call('MGET', epoch_key, clock_key)
local epoch, clock = state[1], tonumber(state[2] or 0)
if not epoch then
  return redis.error_reply('EMPTY no epoch')
end

local time = redis.call('TIME')
local now = math.min(time[1] * 1000000 + time[2], tonumber(ARGV[4]) + 5000000)

local reset = (known_epoch ~= '' and known_epoch ~= epoch) or cursor > math.max(clock, now) + 5000000
if reset then
  cursor = 0
end

-- A quiet store moves its clock here, so that cursors of quiet users do not age out of the window.
if now - clock > 1000000 then
  clock = now
  redis.call('SET', clock_key, string.format('%.0f', clock))
end

local seen = redis.call('ZSCORE', seen_key, uid)
if not seen or now / 1000 - tonumber(seen) > seen_fresh then
  redis.call('ZADD', seen_key, string.format('%.0f', now / 1000), uid)
end

local edge = math.max(now - window, 0)
local boundary = edge
local warm_since = redis.call('HGET', asleep_key, uid)
if warm_since then
  if warm_since == '0' then
    warm_since = string.format('%.0f', clock)
    redis.call('HSET', asleep_key, uid, warm_since)
  end
  if tonumber(warm_since) >= edge then
    boundary = tonumber(warm_since) + 1
  else
    redis.call('HDEL', asleep_key, uid)
  end
end

local from = math.max(cursor, boundary - 1)
local trim_below = string.format('(%.0f', edge - 60000000)

local function read(timeline)
  redis.call('ZREMRANGEBYSCORE', timeline, '-inf', trim_below)
  local source, bytes, after = { 0 }, 0, string.format('(%.0f', from)
  while true do
    local page = redis.call('ZRANGEBYSCORE', timeline, after, '+inf', 'LIMIT', 0, math.min(most_records + 1, 128))
    for _, record in ipairs(page) do
      if #source > most_records or (bytes >= most_bytes) then
        source[1] = 1
        return source
      end
      source[#source + 1] = record
      bytes = bytes + #record
    end
    if #page < math.min(most_records + 1, 128) then
      return source
    end
    after = '(' .. string.match(page[#page], '^%d+')
  end
end

local oldest = ''
if cursor < boundary - 1 then
  local first = redis.call('XRANGE', outbox_key, '-', '+', 'COUNT', 1)
  oldest = first[1] and string.match(first[1][1], '^%d+') or ''
end

local reply = {
  epoch, string.format('%.0f', clock), string.format('%.0f', edge), string.format('%.0f', boundary),
  reset and 1 or 0, oldest, read(inbox_key),
}
if #KEYS >= FIRST_CHANNEL then
  local heads = redis.call('HMGET', heads_key, unpack(ARGV, FIRST_NAME))
  for index, head in ipairs(heads) do
    if head and tonumber(head) > from then
      reply[#reply + 1] = read(KEYS[FIRST_CHANNEL + index - 1])
    end
  end
end
return reply
