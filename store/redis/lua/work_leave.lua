#!lua flags=allow-oom
-- Ends the consumer of a worker that stops, and those of workers that died and left nothing.
--
-- A consumer with pending entries stays: without it they would be given to nobody.
--
-- KEYS  1 the list of work (stream)
-- ARGV  1 consumer group, 2 consumer that leaves, 3 milliseconds of silence after which another one is dead
-- Reply how many consumers went; 0 also if there is no such group

local list = KEYS[1]
local group, leaving, silence = ARGV[1], ARGV[2], tonumber(ARGV[3])

local consumers = redis.pcall('XINFO', 'CONSUMERS', list, group)
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
    redis.call('XGROUP', 'DELCONSUMER', list, group, consumer.name)
    ended = ended + 1
  end
end
return ended
