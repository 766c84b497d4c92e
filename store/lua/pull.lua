-- Reads what one user has not seen: his inbox and the channels he reads, each from the cursor on.
--
-- KEYS  1 epoch, 2 clock, 3 heads, 4 inbox; then channels
-- ARGV  1 cursor (us), 2 most records of each source, 3 most bytes of each source, 4 caller's time (us), 5 window (us),
--       6 the epoch the client knows ('' for none); then the channels' names
-- Reply { epoch, clock, edge of the window, 1 if the cursor belongs to another epoch,
--         { 1 if cut before its end, record, … } for the inbox and for each channel with news }
--       A source that is not cut is complete up to the clock; one that is cut, up to its last record.
-- Error EMPTY

local epoch_key, clock_key, heads_key = KEYS[1], KEYS[2], KEYS[3]
local cursor, most_records, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local window, known_epoch = tonumber(ARGV[5]), ARGV[6]

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

local edge = math.max(now - window, 0)
local from = math.max(cursor, edge - 1)
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

local reply = { epoch, string.format('%.0f', clock), string.format('%.0f', edge), reset and 1 or 0, read(KEYS[4]) }
if #KEYS > 4 then
  local heads = redis.call('HMGET', heads_key, unpack(ARGV, 7))
  for index, head in ipairs(heads) do
    if head and tonumber(head) > from then
      reply[#reply + 1] = read(KEYS[4 + index])
    end
  end
end
return reply
