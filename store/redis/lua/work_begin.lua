#!lua flags=allow-oom
-- Makes the consumer group of a list of work, and the list, where they are not there: also when Redis is full, as what
-- is done then leaves it.
--
-- KEYS stream
-- ARGV group:text
-- REPLY ok

local made = redis.pcall('XGROUP', 'CREATE', stream_key, group, '0', 'MKSTREAM')
if made.err and string.sub(made.err, 1, 9) ~= 'BUSYGROUP' then
  return made
end
return redis.status_reply('OK')
