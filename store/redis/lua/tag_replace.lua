-- Replaces all users who hold a tag by their profile: from here on the staged ones do, all at one id. tag_propagate.lua
-- brings that to their maps.
--
-- Per shard: how many users were staged there. The reply has the id of the change, and what is on links now, as
-- `include/links.lua` says. PROPAGATING: an earlier change is being propagated, propagate it first.
--
-- include batch swap_everywhere
-- guarded
-- KEYS -
-- ARGV tag:text job:text (count:count)...
-- REPLY outcome=DONE|PROPAGATING id links
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED FAILED

local fields = redis.call('HMGET', tag_key, 'made', 'deleted')
if not fields[1] or fields[2] then
  return redis.error_reply('REFUSED unknown_tag')
end
if redis.call('HEXISTS', propagating_key, tag) == 1 then
  return { 'PROPAGATING', 0, links }
end
local counts = {}
for argument = FIRST_ARGUMENT, #ARGV do
  counts[#counts + 1] = tonumber(ARGV[argument])
end
if redis.call('SCARD', staged_prefix .. job) ~= counts[1] then
  return redis.error_reply('FAILED what was uploaded is not there any more')
end
local id = string.format('%d', last + 1)
redis.call('SET', clock_key, id)
swap_everywhere(tag, id, job, counts)
return { 'DONE', tonumber(id), links }
