#!lua flags=allow-oom
-- Reads what one user has not seen: his inbox and the channels he reads, merged by id, from the cursor on; and marks
-- him seen.
--
-- A dormant user, or one who was never seen before and for whom something was skipped, is active now: from this clock on
-- their inbox is written, what lies before is in the archive. The boundary says from where on Redis is complete for this user; records below it are not given, even if they are there.
--
-- Only channels whose newest message lies above the cursor are read, each only in the intervals in which he sees it: a
-- small page each, and more of whichever runs out first, until the answer is full. A channel that the caller has at
-- hand is not read, but for what is newer than what he has.
--
-- KEYS  1 epoch, 2 clock, 3 heads, 4 outbox, 5 dormant, 6 seen, 7 inbox, 8 the user's map of channels,
--       9 what channels' names start with, 10 propagating, 11 what the names of sets of holders start with,
--       12 unseen
-- ARGV  1 cursor (us), 2 most records, 3 most bytes, 4 caller's time (us), 5 window (us),
--       6 the epoch the client knows ('' for none), 7 uid, 8 how fresh "seen" is kept (ms),
--       9 how far the archive is read below the window (us), 10 the epoch of what the caller has at hand,
--       11 what he has at hand: per channel a line break, then its name, the id above which he has all of it, and the
--       id of the newest he knows of, with a space between; from 12 on the names of channels everybody reads
-- Reply { epoch, clock, edge of the window, boundary, 1 if the cursor belongs to another epoch,
--         oldest id in the outbox ('' if it is empty or nothing is missing below the boundary),
--         { 1 if cut before its end, record, … },
--         { name of each channel that was read, … },
--         { { name, id of its newest message, intervals, record newer than what is at hand, … }
--           of each channel with news that is at hand, … },
--         { name, intervals, … of all he reads, if something is missing below the boundary } }
--       Records that are not cut are complete up to the clock; those that are, up to the last one.
-- Error EMPTY

local epoch_key, clock_key, heads_key, outbox_key, dormant_key, seen_key, inbox_key, map_key, channel_prefix =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local propagating_key, holders_prefix, unseen_key = KEYS[10], KEYS[11], KEYS[12]
local cursor, most_records, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local window, known_epoch, uid, seen_fresh = tonumber(ARGV[5]), ARGV[6], ARGV[7], tonumber(ARGV[8])
local further, at_hand = tonumber(ARGV[9]), ARGV[11]
local FIRST_COMMON = 12
local MAX_PAGE = 128
-- Of a channel at hand. With more it is read as others are, until the caller has caught up.
local MAX_NEWER = 32
-- Digits of an id, and a colon.
local ONE_INTERVAL = 17
-- Whether a user holds a tag, and what he sees of it.
--
-- Sets of users, one for each source, say who holds a tag; each user's map of channels says from when to when. After a
-- change of very many users at once the maps follow step by step: until then `propagated` says what a map would say.
--
-- Expects holders_prefix

local SOURCES = { 'manual', 'profile', 'follow' }
local SOURCE_BITS = { manual = 1, profile = 2, follow = 4 }

-- The sources that say so, as bits; 0: he does not hold it.
local function sources_of(tag, uid)
  local bits = 0
  for _, source in ipairs(SOURCES) do
    if redis.call('SISMEMBER', holders_prefix .. source .. ':' .. tag, uid) == 1 then
      bits = bits + SOURCE_BITS[source]
    end
  end
  return bits
end

-- A user's intervals ('' for none) as they are after an id (digits), from which on he holds the tag or does not.
local function propagated(spans, held, at)
  local open = string.sub(spans, -1) == ':'
  if held and not open then
    return (spans == '' and '' or spans .. ',') .. at .. ':'
  end
  return open and not held and spans .. at or spans
end


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

local function digits(id)
  return string.format('%.0f', id)
end

-- A quiet store moves its clock here, so that cursors of quiet users do not age out of the window.
if now - clock > 1000000 then
  clock = now
  redis.call('SET', clock_key, digits(clock))
end

local edge = math.max(now - window, 0)
local lowest = edge - further

-- Intervals that ended before anything that is kept are forgotten.
local function forget_ended()
  local map = redis.call('HGETALL', map_key)
  for index = 1, #map, 2 do
    local name, spans = map[index], map[index + 1]
    if #spans > ONE_INTERVAL then
      local kept = {}
      for span, ended in string.gmatch(spans, '(%d+:(%d*))') do
        if ended == '' or tonumber(ended) > lowest then
          kept[#kept + 1] = span
        end
      end
      local shorter = table.concat(kept, ',')
      if shorter == '' then
        redis.call('HDEL', map_key, name)
      elseif shorter ~= spans then
        redis.call('HSET', map_key, name, shorter)
      end
    end
  end
end

local seen = redis.call('ZSCORE', seen_key, uid)
if not seen and redis.call('ZREM', unseen_key, uid) == 1 then
  redis.call('HSET', dormant_key, uid, '0')
end
if not seen or now / 1000 - tonumber(seen) > seen_fresh then
  redis.call('ZADD', seen_key, digits(now / 1000), uid)
  forget_ended()
end

local boundary = edge
local warm_since = redis.call('HGET', dormant_key, uid)
if warm_since then
  if warm_since == '0' then
    warm_since = digits(clock)
    redis.call('HSET', dormant_key, uid, warm_since)
  end
  if tonumber(warm_since) >= edge then
    boundary = tonumber(warm_since) + 1
  else
    redis.call('HDEL', dormant_key, uid)
  end
end
local from = math.max(cursor, boundary - 1)
local missing = math.max(cursor, lowest - 1) < boundary - 1

-- What lies in his intervals above an id: pairs of bounds.
local function ranges(spans)
  local found = {}
  for joined, left in string.gmatch(spans, '(%d+):(%d*)') do
    if left == '' or tonumber(left) > from + 1 then
      local low = math.max(tonumber(joined), from)
      found[#found + 1] = { '(' .. digits(low), left == '' and '+inf' or '(' .. left }
    end
  end
  return found
end

-- What is newer than what is at hand of a channel; nothing if it must be read as others are.
local function newer(name, head)
  if ARGV[10] ~= epoch then
    return nil
  end
  local _, found = string.find(at_hand, '\n' .. name .. ' ', 1, true)
  if not found then
    return nil
  end
  local low, known = string.match(at_hand, '^(%d+) (%d+)', found + 1)
  if tonumber(low) > from or tonumber(known) > tonumber(head) then
    return nil
  end
  if known == head then
    return {}
  end
  local records = redis.call('ZRANGEBYSCORE', channel_prefix .. name, '(' .. known, '+inf', 'LIMIT', 0, MAX_NEWER + 1)
  return #records <= MAX_NEWER and records or nil
end

-- The channels with news: of those he reads, and of those everybody does. Of tags that many users gained or lost at
-- once his map may not say so yet.
local names, following = redis.call('HKEYS', map_key), {}
local propagating = redis.call('HGETALL', propagating_key)
for index = 1, #propagating, 2 do
  local name = 'tag_' .. propagating[index]
  local before = redis.call('HGET', map_key, name)
  following[name] = propagated(before or '', sources_of(propagating[index], uid) > 0, propagating[index + 1])
  if not before then
    names[#names + 1] = name
  end
end
local own = #names
for index = FIRST_COMMON, #ARGV do
  names[#names + 1] = ARGV[index]
end
local with_news, heads = {}, {}
local own_with_news = 0
-- Most of what a pull of many channels takes is this loop: ids are compared as text, digit by digit.
local after = digits(from)
for first = 1, #names, 4000 do
  local found = redis.call('HMGET', heads_key, unpack(names, first, math.min(first + 3999, #names)))
  for index = 1, #found do
    local head = found[index]
    if head and #head >= #after and (head > after or #head > #after) then
      with_news[#with_news + 1] = names[first + index - 1]
      heads[#heads + 1] = head
      if first + index - 1 <= own then
        own_with_news = #with_news
      end
    end
  end
end

-- When he sees them. Where many have news, all of his map is read: asking for each of many fields takes longer.
local intervals = {}
if own_with_news > 32 then
  local map = redis.call('HGETALL', map_key)
  for index = 1, #map, 2 do
    intervals[map[index]] = map[index + 1]
  end
elseif own_with_news > 0 then
  local found = redis.call('HMGET', map_key, unpack(with_news, 1, own_with_news))
  for index = 1, own_with_news do
    intervals[with_news[index]] = found[index]
  end
end

local sources = { { timeline = inbox_key, ranges = { { '(' .. digits(from), '+inf' } } } }
local hot, read = {}, {}
for index, name in ipairs(with_news) do
  local spans = following[name] or intervals[name] or '0:'
  local seen_ranges = ranges(spans)
  if #seen_ranges > 0 then
    local records = newer(name, heads[index])
    if records then
      hot[#hot + 1] = { name, heads[index], spans, unpack(records) }
    else
      sources[#sources + 1] = { timeline = channel_prefix .. name, ranges = seen_ranges }
      read[#read + 1] = name
    end
  end
end

-- Moves a source to its next record, with another page where one is needed; false at its end.
local first_page = math.max(1, math.min(MAX_PAGE, math.ceil((most_records + 1) / #sources)))
local function advance(source)
  local position = (source.position or 0) + 1
  local page = source.page
  while not page or not page[position] do
    local range = source.ranges[1]
    if not range then
      return false
    end
    local size = page and MAX_PAGE or first_page
    if source.ended then
      table.remove(source.ranges, 1)
      source.ended = false
    else
      page = redis.call('ZRANGEBYSCORE', source.timeline, range[1], range[2], 'LIMIT', 0, size)
      source.page = page
      source.ended = #page < size
      position = 1
      if #page > 0 then
        range[1] = '(' .. string.match(page[#page], '^%d+')
      end
    end
  end
  source.position = position
  source.id = tonumber(string.match(page[position], '^%d+'))
  return true
end

redis.call('ZREMRANGEBYSCORE', inbox_key, '-inf', '(' .. digits(edge - 60000000))

-- A heap by the id of each source's next record.
local heap, size = {}, 0
local function sink(index)
  local source = heap[index]
  while true do
    local child = index * 2
    if child > size then
      break
    end
    if child < size and heap[child + 1].id < heap[child].id then
      child = child + 1
    end
    if source.id <= heap[child].id then
      break
    end
    heap[index] = heap[child]
    index = child
  end
  heap[index] = source
end
for _, source in ipairs(sources) do
  if advance(source) then
    size = size + 1
    heap[size] = source
  end
end
for index = math.floor(size / 2), 1, -1 do
  sink(index)
end

local merged, count, bytes, last = { 0 }, 0, 0, 0
while size > 0 do
  local source = heap[1]
  -- A message may lie in the inbox and, put back from the archive, in a channel.
  if source.id ~= last then
    if count == most_records or bytes >= most_bytes then
      merged[1] = 1
      break
    end
    local record = source.page[source.position]
    count = count + 1
    merged[count + 1] = record
    bytes = bytes + #record
    last = source.id
  end
  if not advance(source) then
    heap[1] = heap[size]
    heap[size] = nil
    size = size - 1
  end
  if size > 1 then
    sink(1)
  end
end

local oldest, reply_map = '', {}
if missing then
  local first = redis.call('XRANGE', outbox_key, '-', '+', 'COUNT', 1)
  oldest = first[1] and string.match(first[1][1], '^%d+') or ''
  reply_map = redis.call('HGETALL', map_key)
  for index = 1, #reply_map, 2 do
    local name = reply_map[index]
    reply_map[index + 1], following[name] = following[name] or reply_map[index + 1], nil
  end
  for name, spans in pairs(following) do
    if spans ~= '' then
      reply_map[#reply_map + 1] = name
      reply_map[#reply_map + 1] = spans
    end
  end
  for index = FIRST_COMMON, #ARGV do
    reply_map[#reply_map + 1] = ARGV[index]
    reply_map[#reply_map + 1] = '0:'
  end
end

return {
  epoch, digits(clock), digits(edge), digits(boundary), reset and 1 or 0, oldest, merged, read, hot, reply_map,
}
