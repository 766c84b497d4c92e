-- Reads what is on a link above an id, and in which life the home is: whichever process wrote what is there, it belongs to that.
--
-- The reply: the home's life; the id of the newest entry that the link ever had, 0 if there was none; and per entry, `most`
-- at once, its id, that of the one before it, the id up to which it is complete, and its data.
--
-- KEYS epoch links link
-- ARGV shard:text after:id most:count
-- REPLY life tail entries
-- ERROR EMPTY

if redis.call('EXISTS', epoch_key) == 0 then
  return redis.error_reply('EMPTY no epoch')
end
local known = redis.call('HMGET', links_key, 'life', shard)
local entries = {}
for index, entry in ipairs(redis.call('XRANGE', link_key, '(' .. after .. '-0', '+', 'COUNT', most)) do
  local fields = {}
  for place = 1, #entry[2], 2 do
    fields[entry[2][place]] = entry[2][place + 1]
  end
  entries[index] = { string.match(entry[1], '^%d+'), fields.p, fields.c, fields.d }
end
return { tonumber(known[1] or 1), tonumber(known[2] or 0), entries }
