#!lua flags=allow-oom
-- Takes over what workers that are silent have not finished.
--
-- How long an entry was not finished says nothing: a living worker may hold it while it serves others first.
--
-- KEYS  1 the list of work (stream)
-- ARGV  1 consumer group, 2 consumer that takes over, 3 milliseconds of silence after which another one is dead,
--       4 entries at most
-- Reply the entries as XCLAIM gives them; none also if there is no such group

local list = KEYS[1]
local group, taking, silence, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local consumers = redis.pcall('XINFO', 'CONSUMERS', list, group)
if consumers.err then
  return {}
end
local taken = {}
for _, fields in ipairs(consumers) do
  local consumer = {}
  for index = 1, #fields, 2 do
    consumer[fields[index]] = fields[index + 1]
  end
  local left = most - #taken
  if left > 0 and consumer.pending > 0 and consumer.name ~= taking and consumer.idle >= silence then
    local ids = {}
    for _, entry in ipairs(redis.call('XPENDING', list, group, '-', '+', left, consumer.name)) do
      ids[#ids + 1] = entry[1]
    end
    for _, entry in ipairs(redis.call('XCLAIM', list, group, taking, 0, unpack(ids))) do
      taken[#taken + 1] = entry
    end
  end
end
return taken
