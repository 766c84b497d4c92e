-- Puts archived holders of a tag back, and with the last of them the tag. What Redis holds stays where it is newer;
-- doing it twice changes nothing.
--
-- An interval that lasts although it began in an earlier life of the tag, or although the tag is deleted, ends with that
-- life: it was not ended in the archive when Redis was lost.
--
-- KEYS  1 the tag, 2 tags, 3 what the names of sets of holders start with, 4 what the names of users' maps of channels
--       start with
-- ARGV  1 tag, 2 channel name, 3 followable, 4 made, 5 deleted ('0': it lives), 6 changed, 7 title;
--       8 id of the newest change that Redis knew of before this rebuild,
--       9 id of the newest change in the archive, with the last of its holders; before '';
--       then per interval, a user's in order: uid, joined, left ('0': it lasts), sources (bits), id of its last change
-- Reply OK

local tag_key, tags_key, holders_prefix, map_prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local tag, channel, followable, made, deleted, changed, title =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local known, newest = tonumber(ARGV[8]), ARGV[9]
local FIRST_HOLDER = 10
-- include holding
local more = 0
for argument = FIRST_HOLDER, #ARGV, 5 do
  local uid, joined, left = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2]
  local sources, at = tonumber(ARGV[argument + 3]), tonumber(ARGV[argument + 4])
  if left == '0' and (deleted ~= '0' or tonumber(joined) < tonumber(made)) then
    left = deleted ~= '0' and deleted or made
    at = math.max(at, tonumber(left))
  end
  if at > known then
    local map = map_prefix .. uid
    local before = redis.call('HGET', map, channel) or ''
    local spans = {}
    for since, till in string.gmatch(before, '(%d+):(%d*)') do
      if tonumber(since) < tonumber(joined) then
        spans[#spans + 1] = since .. ':' .. till
      end
    end
    spans[#spans + 1] = joined .. ':' .. (left == '0' and '' or left)
    redis.call('HSET', map, channel, table.concat(spans, ','))
    more = more + (left == '0' and 1 or 0) - (string.sub(before, -1) == ':' and 1 or 0)
    for _, source in ipairs(SOURCES) do
      local held = left == '0' and math.floor(sources / SOURCE_BITS[source]) % 2 == 1
      redis.call(held and 'SADD' or 'SREM', holders_prefix .. source .. ':' .. tag, uid)
    end
  end
end
if more ~= 0 then
  redis.call('HINCRBY', tag_key, 'holders', more)
end
if newest ~= '' and tonumber(newest) > known then
  if tonumber(changed) > known then
    redis.call('HSET', tag_key, 'title', title, 'followable', followable, 'made', made)
    if deleted == '0' then
      redis.call('HDEL', tag_key, 'deleted')
      redis.call('ZADD', tags_key, 0, tag)
    else
      redis.call('HSET', tag_key, 'deleted', deleted)
      redis.call('ZREM', tags_key, tag)
    end
  end
  redis.call('HSET', tag_key, 'changed', newest)
end
return redis.status_reply('OK')
