-- Reads the newest records of channels, for a process that holds those of hot ones: of each what is newer than what it
-- has, or as many as it may hold.
--
-- `known_epoch` is that of what the caller has ('' for none). A record takes `beside` beside its own bytes. Then per
-- channel its name and the id of the newest that the caller knows of.
--
-- The reply: the epoch; per channel { id above which the records are all there are, id of the newest, record, … newest
-- first }, or nil if it was not reached.
--
-- include bodies
-- guarded
-- KEYS epoch heads channel_prefix
-- ARGV known_epoch:text max_bytes:bytes beside:bytes max_bytes_in_all:bytes (name:text known:id)...
-- REPLY epoch channels
-- ERROR EMPTY

local PAGE = 64

local epoch = redis.call('GET', epoch_key)
if not epoch then
  return redis.error_reply('EMPTY no epoch')
end

local channels, all = {}, 0
for argument = FIRST_ARGUMENT, #ARGV, 2 do
  local name, known = ARGV[argument], epoch == known_epoch and ARGV[argument + 1] or '0'
  if all >= max_bytes_in_all then
    channels[#channels + 1] = false
  else
    local head = redis.call('HGET', heads_key, name) or '0'
    local found, bytes, highest = { known, head }, 0, head == known and known or '+inf'
    while highest ~= known do
      local page =
        redis.call('ZREVRANGEBYSCORE', channel_prefix .. name, highest, '(' .. known, 'LIMIT', 0, PAGE)
      highest = #page < PAGE and known or '(' .. page[PAGE]
      for index, record in ipairs(bodies_of(page, 1, #page)) do
        -- One that is gone is like one that never was.
        bytes = bytes + (record and #record + beside or 0)
        if bytes > max_bytes then
          -- It is not given, so it is the one above which there are all.
          found[1] = page[index]
          highest = known
          break
        end
        found[#found + 1] = record or nil
      end
    end
    all = all + bytes
    channels[#channels + 1] = found
  end
end
return { epoch, channels }
