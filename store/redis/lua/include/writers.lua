-- Tells who has written to a user, as far as the newest messages in their inbox say.
--
-- include batch outbox
-- KEYS -
-- ARGV -
-- REPLY -
-- ERROR EMPTY BEHIND OUTBOXFULL

-- How much of an inbox is looked at.
local LOOKED_AT_RECORDS, LOOKED_AT_BYTES = 2000, 1048576

-- Whether each of some users has. topic: of the inbox. missing: a set of them, of which those are taken out who have.
local function have_written(uid, topic, missing)
  local head = '^%d+\n' .. topic .. '\n(%d+)\n'
  local looked, bytes = 0, 0
  local function look(mids)
    looked = looked + #mids
    for _, record in ipairs(bodies_of(mids, 1, #mids)) do
      bytes = bytes + (record and #record or 0)
      local sender = record and string.match(record, head)
      if sender then
        missing[sender] = nil
      end
    end
  end
  for span = math.floor(last / 1000000 / SPAN_SECONDS), math.floor(window_edge / 1000000 / SPAN_SECONDS), -1 do
    local inbox, first, page = inbox_prefix .. uid .. ':' .. span, 0, nil
    repeat
      if not next(missing) or looked >= LOOKED_AT_RECORDS or bytes >= LOOKED_AT_BYTES then
        return not next(missing)
      end
      page = redis.call('ZREVRANGE', inbox, first, first + 99)
      look(page)
      first = first + 100
    until #page < 100
  end
  return not next(missing)
end
