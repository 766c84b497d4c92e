#!lua flags=allow-oom
-- Takes entries off a link that were applied, up to an id.
--
-- The reply is how many went, `most` at once.
--
-- KEYS link link_bytes
-- ARGV applied:id most:count
-- REPLY trimmed

local entries = redis.call('XRANGE', link_key, '-', applied .. '-0', 'COUNT', most)
local bytes = 0
for _, entry in ipairs(entries) do
  redis.call('XDEL', link_key, entry[1])
  for index = 1, #entry[2], 2 do
    bytes = bytes + (entry[2][index] == 'd' and #entry[2][index + 1] + 64 or 0)
  end
end
if bytes > 0 then
  redis.call('DECRBY', link_bytes_key, bytes)
end
return #entries
