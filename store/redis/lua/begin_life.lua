#!lua flags=allow-oom
-- Begins another life of the home, which the other shards know already: it goes on above everything that any of them has,
-- and where each of them stands.
--
-- Per shard its number, the id of the newest entry that is applied there, '0', and ''; and once more with each group (gid)
-- of which the home does not know what it told that shard last, and its channel: then who is a member comes first in this
-- life. The keys are those of the members of the groups, in the same order, and of any group for '0'.
--
-- The reply: the clock.
--
-- include links
-- KEYS clock (members)...
-- ARGV shard_count:count life:count lowest_clock:us (shard:text applied:id gid:gid channel:text)...
-- REPLY clock

shards = shard_count
local clock = math.max(tonumber(redis.call('GET', clock_key) or 0), lowest_clock)
redis.call('HSET', links_key, 'life', string.format('%d', life))

local function members_there(key, shard)
  local found = {}
  for _, uid in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    if shard_among(uid, shards) == tonumber(shard) then
      found[#found + 1] = uid
    end
  end
  return found
end

for index = 0, (#ARGV - FIRST_ARGUMENT + 1) / 4 - 1 do
  local argument = FIRST_ARGUMENT + index * 4
  local shard, applied, gid, channel = unpack(ARGV, argument, argument + 3)
  if tonumber(applied) > tonumber(redis.call('HGET', links_key, shard) or 0) then
    redis.call('HSET', links_key, shard, applied)
  end
  if gid ~= '0' then
    clock = clock + 1
    local id = string.format('%d', clock)
    put_on_link(shard, id, { 'members', gid, channel, id, members_there(KEYS[FIRST_KEY + index], shard) })
  end
end
redis.call('SET', clock_key, string.format('%d', clock))
write_links(string.format('%d', clock))
return clock
