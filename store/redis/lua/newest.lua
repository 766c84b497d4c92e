-- The newest ids in users' inboxes and of their states.
--
-- Inboxes have the spans `first_span` to `last_span`. The reply: per user the id, '0' where there is none.
--
-- KEYS inbox_prefix states_prefix
-- ARGV first_span:count last_span:count (uid:uid)...
-- REPLY ids

-- Spans that are looked for together: most users have some of the newest, and some have none.
local MAX_SPANS = 32

local ids = {}
for argument = FIRST_ARGUMENT, #ARGV do
  local newest
  local last = last_span
  while not newest and last >= first_span do
    local first, names = math.max(last - MAX_SPANS + 1, first_span), {}
    for span = last, first, -1 do
      names[#names + 1] = inbox_prefix .. ARGV[argument] .. ':' .. span
    end
    if redis.call('EXISTS', unpack(names)) > 0 then
      for _, name in ipairs(names) do
        newest = newest or redis.call('ZRANGE', name, -1, -1)[1]
      end
    end
    last = first - 1
  end
  local changed = redis.call('GET', states_prefix .. 'h:' .. ARGV[argument])
  if changed and tonumber(changed) > tonumber(newest or 0) then
    newest = changed
  end
  ids[#ids + 1] = newest or '0'
end
return ids
