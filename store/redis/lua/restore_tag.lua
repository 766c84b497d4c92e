-- Puts archived holders of a tag back, and with the last of them the tag, unless what Redis holds is newer. Doing it
-- twice changes nothing.
--
-- An interval that lasts although it began in an earlier life of the tag, or although the tag is deleted, ends with
-- that life: it was not ended in the archive when Redis was lost.
--
-- `deleted` and `left` are '0' while it lasts. `known` is the id of the newest change that Redis knew of before this
-- rebuild. `newest` comes with the last of the holders: the id of the newest change in the archive; before ''. Then per
-- interval, a user's in order: uid, joined, left, the sources (bits), the id of its last change.
--
-- include holding
-- KEYS tag tags channel_map_prefix
-- ARGV tag:text channel:text followable:flag made:id deleted:id changed:id title:text known:us newest:id
--   (uid:uid joined:id left:id sources:count at:id)...
-- REPLY ok

local more = 0
for argument = FIRST_ARGUMENT, #ARGV, 5 do
  local uid, joined, left = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2]
  local sources, at = tonumber(ARGV[argument + 3]), tonumber(ARGV[argument + 4])
  if left == '0' and (deleted ~= '0' or tonumber(joined) < tonumber(made)) then
    left = deleted ~= '0' and deleted or made
    at = math.max(at, tonumber(left))
  end
  if at > known then
    local map = channel_map_prefix .. uid
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
