-- Messages that were edited or recalled, and of which the archive does not say so yet.
--
-- KEYS outbox replacing
-- ARGV -
-- REPLY -

-- The oldest id in the outbox, or nil: the archive has what is older.
local function oldest_in_outbox()
  local first = redis.call('XRANGE', outbox_key, '-', '+', 'COUNT', 1)
  return first[1] and string.match(first[1][1], '^%d+')
end

-- Whether a change of a message with such an id waits: two bounds of ZRANGEBYSCORE. Forgets changes that wait no more.
local function is_replacing(low, high, oldest)
  while true do
    local found = redis.call('ZRANGEBYSCORE', replacing_key, low, high, 'LIMIT', 0, 100)
    if #found == 0 then
      return false
    end
    for _, each in ipairs(found) do
      if oldest and tonumber(string.match(each, '%d+$')) >= tonumber(oldest) then
        return true
      end
      redis.call('ZREM', replacing_key, each)
    end
  end
end

-- The newest change of a message that waits (number), or 0.
local function newest_replacing(mid)
  local newest = 0
  for _, each in ipairs(redis.call('ZRANGEBYSCORE', replacing_key, mid, mid)) do
    newest = math.max(newest, tonumber(string.match(each, '%d+$')))
  end
  return newest
end

-- A message was replaced by a change. Both are ids.
local function note_replacing(mid, change, oldest)
  is_replacing('-inf', '+inf', oldest)
  redis.call('ZADD', replacing_key, mid, mid .. ':' .. change)
end
