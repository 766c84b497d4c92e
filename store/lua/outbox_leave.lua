-- Ends the consumer of an archiver that stops, and those of archivers that died and left nothing.
--
-- A consumer with pending entries stays: without it they would be given to nobody.
--
-- KEYS: 1 outbox (stream)
-- ARGV: 1 consumer group, 2 consumer that leaves, 3 milliseconds of silence after which another one is dead
-- Reply: how many consumers went; 0 also if there is no such group
local outbox = KEYS[1]
local group, leaving, silence = ARGV[1], ARGV[2], tonumber(ARGV[3])

local consumers = redis.pcall('XINFO', 'CONSUMERS', outbox, group)
if consumers.err then
    return 0
end
local ended = 0
for _, fields in ipairs(consumers) do
    local consumer = {}
    for i = 1, #fields, 2 do
        consumer[fields[i]] = fields[i + 1]
    end
    if consumer.pending == 0 and (consumer.name == leaving or consumer.idle > silence) then
        redis.call('XGROUP', 'DELCONSUMER', outbox, group, consumer.name)
        ended = ended + 1
    end
end
return ended
