-- Tells who has written to a user, as far as the newest messages in their inbox say, in the user's shard.
--
-- include timelines
-- KEYS -
-- ARGV -
-- REPLY -
-- ERROR EMPTY

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
  local newest = math.max(now, tonumber(state[2] or 0))
  for span = math.floor(newest / 1000000 / SPAN_SECONDS), math.floor(window_edge / 1000000 / SPAN_SECONDS), -1 do
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

-- Whether a peer wrote the message `mid` into a user's inbox of this topic, or has written to them at all: '1', '0', or
-- '' where only the archive knows.
local function was_heard(uid, topic, peer, mid)
  local body = bodies_of({ mid }, 1, 1)[1]
  if body and string.match(body, '^%d+\n([^\n]*)\n') == topic and string.match(body, '^%d+\n[^\n]*\n([^\n]*)\n') == peer then
    return '1'
  end
  if have_written(uid, topic, { [peer] = true }) then
    return '1'
  end
  return body and '0' or ''
end
