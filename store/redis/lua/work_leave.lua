#!lua flags=allow-oom
-- Ends the consumer of a worker that stops, and those of workers that died and left nothing.
--
-- A consumer with pending entries stays: without it they would be given to nobody.
--
-- A consumer is dead after `silence`. The reply is how many consumers went; 0 also if there is no such group.
--
-- KEYS stream
-- ARGV group:text leaving:text silence:ms
-- REPLY ended

local consumers = redis.pcall('XINFO', 'CONSUMERS', stream_key, group)
if consumers.err then
  return 0
end
local ended = 0
for _, fields in ipairs(consumers) do
  local consumer = {}
  for index = 1, #fields, 2 do
    consumer[fields[index]] = fields[index + 1]
  end
  if consumer.pending == 0 and (consumer.name == leaving or consumer.idle > silence) then
    redis.call('XGROUP', 'DELCONSUMER', stream_key, group, consumer.name)
    ended = ended + 1
  end
end
return ended
