#!lua flags=allow-oom
-- Reads what one user has not seen: their inbox and their channels, merged by id, from the cursor on; and marks them
-- seen. A user who is banned is refused.
--
-- A dormant user, or one who was never seen before and for whom something was skipped, is active now: from this clock
-- on their inbox is written, what lies before is in the archive. The boundary says from where on Redis is complete for
-- this user; records below it are not given, even if they are there.
--
-- Only channels whose newest message is above the cursor are read, each only in the intervals in which the user sees
-- it: a small page of each, and more of the one that runs out first, until the answer is full. If the caller has a
-- channel at hand, only newer messages of it are read.
--
-- `known_epoch` is the one the client knows ('' for none). "Seen" is kept as fresh as `seen_fresh`. The archive is read
-- `further` below the window. `held_epoch` is that of what the caller has `at_hand`: per channel a line break, then its
-- name, the id above which it has all of it, and the id of the newest it knows of, with a space between. Then the names
-- of channels everybody reads.
--
-- A quiet home moves its clock; that of another shard is the id up to which it has everything (`is_home`).
--
-- Redis may keep less than `window`, as another process began with a shorter one, or as a longer one is not rebuilt yet.
--
-- The reply: the epoch; the clock; the lowest id that a pull reaches; the boundary; 1 if the cursor belongs to another
-- epoch; the oldest id in the outbox ('' if it is empty or nothing is missing below the boundary); the id below which
-- nothing must wait there, before the archive is read; { 1 if cut before its end, record, … }; { name of each channel
-- that was read, … }; { { name, id of its newest message, intervals, record newer than what is at hand, … } of each
-- channel with news that is at hand, … }; { name, intervals, … of all they read, if something is missing below the
-- boundary }; '' or { { 0, name, id of its change, value, … of the user's states that changed after the cursor and up to the
-- edge of the window }, { 1 if cut before its end, and the same of those that changed later } }. What is not cut is complete
-- up to the clock; what is, up to its last record or state.
--
-- include holding merge replacing states_after
-- guarded
-- KEYS epoch clock window ban heads dormant seen inbox_prefix channel_map channel_prefix propagating unseen states_prefix
-- ARGV cursor:us caller_time:us window:us known_epoch:text uid:uid seen_fresh:ms
--   further:us held_epoch:text at_hand:text tag_channels:text is_home:flag (common:text)...
-- REPLY epoch clock lowest boundary reset oldest awaited merged read hot seen states
-- ERROR EMPTY BANNED

-- Spans of an inbox that are looked for together: those of a day.
local MAX_SPANS = 10
-- Newer messages of a channel at hand. With more it is read as others are, until the caller has caught up.
local MAX_NEWER = 32
-- Digits of an id, and a colon.
local ONE_INTERVAL = 17

local state = redis.call('MGET', epoch_key, clock_key, window_key, ban_key, states_prefix .. 'h:' .. uid)
local epoch, clock = state[1], tonumber(state[2] or 0)
if not epoch then
  return redis.error_reply('EMPTY no epoch')
end
if state[4] then
  return redis.error_reply('BANNED')
end

local time = redis.call('TIME')
local now = math.min(time[1] * 1000000 + time[2], caller_time + 5000000)

local reset = (known_epoch ~= '' and known_epoch ~= epoch) or cursor > math.max(clock, now) + 5000000
if reset then
  cursor = 0
end

local function digits(id)
  return string.format('%d', id)
end

-- A quiet store moves its clock here, so that cursors of quiet users do not age out of the window.
if is_home == '1' and now - clock > 1000000 then
  clock = now
  redis.call('SET', clock_key, digits(clock))
end

-- If clocks were ahead for a while, more has gone than has left the window by now.
local edge = math.max(math.max(now, clock) - math.min(window, tonumber(state[3] or window)), 0)
local lowest = math.max(now - window, 0) - further

-- Intervals that ended before anything that is kept are forgotten.
local function forget_ended()
  local map = redis.call('HGETALL', channel_map_key)
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
        redis.call('HDEL', channel_map_key, name)
      elseif shorter ~= spans then
        redis.call('HSET', channel_map_key, name, shorter)
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
local active_since = redis.call('HGET', dormant_key, uid)
if active_since then
  if active_since == '0' then
    active_since = digits(clock)
    redis.call('HSET', dormant_key, uid, active_since)
  end
  if tonumber(active_since) >= edge then
    boundary = tonumber(active_since) + 1
  else
    redis.call('HDEL', dormant_key, uid)
  end
end
local from = math.max(cursor, boundary - 1)
local missing = math.max(cursor, lowest - 1) < boundary - 1

-- Returns the parts of a channel above an id, in the user's intervals: a key and two bounds each.
local function ranges(channel_key, spans)
  local found = {}
  for joined, left in string.gmatch(spans, '(%d+):(%d*)') do
    if left == '' or tonumber(left) > from + 1 then
      local low = math.max(tonumber(joined), from)
      found[#found + 1] = { channel_key, '(' .. digits(low), left == '' and '+inf' or '(' .. left }
    end
  end
  return found
end

-- What is newer than what is at hand of a channel; nothing if it must be read as others are.
local function newer(name, head)
  if held_epoch ~= epoch then
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
  local mids = redis.call('ZRANGEBYSCORE', channel_prefix .. name, '(' .. known, '+inf', 'LIMIT', 0, MAX_NEWER + 1)
  return #mids <= MAX_NEWER and bodies_of(mids, 1, #mids) or nil
end

-- The channels with new messages, among the user's and those that everybody reads. If many users gained or lost a tag
-- at once, the map may not say so yet.
local names, following = redis.call('HKEYS', channel_map_key), {}
local propagating = redis.call('HGETALL', propagating_key)
for index = 1, #propagating, 2 do
  local name = tag_channels .. propagating[index]
  local before = redis.call('HGET', channel_map_key, name)
  following[name] = propagated(before or '', sources_of(propagating[index], uid) > 0, propagating[index + 1])
  if not before then
    names[#names + 1] = name
  end
end
local own = #names
for index = FIRST_ARGUMENT, #ARGV do
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

-- The intervals in which the user sees them. If many have new messages, the whole map is read: that takes less time.
local intervals = {}
if own_with_news > 32 then
  local map = redis.call('HGETALL', channel_map_key)
  for index = 1, #map, 2 do
    intervals[map[index]] = map[index + 1]
  end
elseif own_with_news > 0 then
  local found = redis.call('HMGET', channel_map_key, unpack(with_news, 1, own_with_news))
  for index = 1, own_with_news do
    intervals[with_news[index]] = found[index]
  end
end

-- The inbox, span by span: some at a time, none where nothing was written for long.
local span, last_span = math.floor((from + 1) / 1000000 / SPAN_SECONDS), math.floor(clock / 1000000 / SPAN_SECONDS)
local inbox, above = inbox_prefix .. uid .. ':', '(' .. after
local function next_spans()
  while span <= last_span do
    local names = {}
    for number = span, math.min(span + MAX_SPANS - 1, last_span) do
      names[#names + 1] = inbox .. number
    end
    span = span + #names
    if #names == 1 or redis.call('EXISTS', unpack(names)) > 0 then
      local found = {}
      for index, name in ipairs(names) do
        found[index] = { name, above, '+inf' }
        above = '-inf'
      end
      return found
    end
    above = '-inf'
  end
end

local sources = { { ranges = {}, next_ranges = next_spans } }
local hot, read = {}, {}
for index, name in ipairs(with_news) do
  local spans = following[name] or intervals[name] or '0:'
  local seen_ranges = ranges(channel_prefix .. name, spans)
  if #seen_ranges > 0 then
    local records = newer(name, heads[index])
    if records then
      local news = { name, heads[index], spans }
      for _, record in ipairs(records) do
        news[#news + 1] = record or nil
      end
      hot[#hot + 1] = news
    else
      sources[#sources + 1] = { ranges = seen_ranges }
      read[#read + 1] = name
    end
  end
end

local merged = merge(sources)

local oldest, awaited, reply_map = nil, boundary, {}
if missing then
  oldest = oldest_in_outbox()
  if is_replacing('-inf', '(' .. digits(boundary), oldest) then
    awaited = clock + 1
  end
  reply_map = redis.call('HGETALL', channel_map_key)
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
  for index = FIRST_ARGUMENT, #ARGV do
    reply_map[#reply_map + 1] = ARGV[index]
    reply_map[#reply_map + 1] = '0:'
  end
end

-- The newest change is read with the epoch, so that no change costs nothing.
local states = ''
if state[5] and tonumber(state[5]) > cursor then
  states = {
    cursor < edge and states_after(uid, digits(cursor), digits(edge), -1, math.huge) or { 0 },
    states_after(uid, digits(math.max(cursor, edge)), '+inf', max_records + 1, max_bytes),
  }
end

return {
  epoch, digits(clock), digits(lowest), digits(boundary), reset and 1 or 0, oldest or '', digits(awaited), merged, read, hot, reply_map,
  states,
}
