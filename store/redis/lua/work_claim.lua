#!lua flags=allow-oom
-- Takes over what workers that are silent have not finished.
--
-- How long an entry was not finished says nothing: a living worker may hold it while it serves others first.
--
-- A consumer is dead after `silence`. The reply has the entries as XCLAIM gives them, `limit` at once; none also if
-- there is no such group.
--
-- KEYS stream
-- ARGV group:text taking:text silence:ms limit:count
-- REPLY entries

local consumers = redis.pcall('XINFO', 'CONSUMERS', stream_key, group)
if consumers.err then
  return {}
end
local taken = {}
for _, fields in ipairs(consumers) do
  local consumer = {}
  for index = 1, #fields, 2 do
    consumer[fields[index]] = fields[index + 1]
  end
  local left = limit - #taken
  if left > 0 and consumer.pending > 0 and consumer.name ~= taking and consumer.idle >= silence then
    local ids = {}
    for _, entry in ipairs(redis.call('XPENDING', stream_key, group, '-', '+', left, consumer.name)) do
      ids[#ids + 1] = entry[1]
    end
    for _, entry in ipairs(redis.call('XCLAIM', stream_key, group, taking, 0, unpack(ids))) do
      taken[#taken + 1] = entry
    end
  end
end
return taken
