-- Reads the newest records of channels, for a process that holds those of hot ones: of each what is newer than what it
-- has, or as many as it may hold.
--
-- KEYS  1 epoch, 2 heads, 3 what channels' names start with
-- ARGV  1 the epoch of what the caller has ('' for none), 2 most bytes of a channel, 3 bytes that a record takes beside
--       its own, 4 most bytes of all; then per channel: name, id of the newest that the caller knows of
-- Reply { epoch, per channel { id above which the records are all there are, id of the newest, record, … newest first },
--         or nil if it was not reached }
-- Error EMPTY

local epoch_key, heads_key, channel_prefix = KEYS[1], KEYS[2], KEYS[3]
local most_bytes, beside, most_of_all = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local FIRST_CHANNEL = 5
local PAGE = 64

local epoch = redis.call('GET', epoch_key)
if not epoch then
  return redis.error_reply('EMPTY no epoch')
end

local reply, all = { epoch }, 0
for argument = FIRST_CHANNEL, #ARGV, 2 do
  local name, known = ARGV[argument], epoch == ARGV[1] and ARGV[argument + 1] or '0'
  if all >= most_of_all then
    reply[#reply + 1] = false
  else
    local head = redis.call('HGET', heads_key, name) or '0'
    local found, bytes, highest = { known, head }, 0, head == known and known or '+inf'
    while highest ~= known do
      local page =
        redis.call('ZREVRANGEBYSCORE', channel_prefix .. name, highest, '(' .. known, 'LIMIT', 0, PAGE)
      highest = #page < PAGE and known or '(' .. string.match(page[PAGE], '^%d+')
      for _, record in ipairs(page) do
        bytes = bytes + #record + beside
        if bytes > most_bytes then
          -- It is not given, so it is the one above which there are all.
          found[1] = string.match(record, '^%d+')
          highest = known
          break
        end
        found[#found + 1] = record
      end
    end
    all = all + bytes
    reply[#reply + 1] = found
  end
end
return reply
