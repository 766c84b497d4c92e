-- Counts a group for its members, and as one of those they read if it is read. For a rebuild, which begins with no
-- counts.
--
-- The reply is how many members were counted.
--
-- KEYS group members read_groups user_groups
-- ARGV -
-- REPLY counted

local is_read = redis.call('HGET', group_key, 'mode') == 'read'
local uids = redis.call('ZRANGE', members_key, 0, -1)
for _, uid in ipairs(uids) do
  redis.call('HINCRBY', user_groups_key, uid, 1)
  if is_read then
    redis.call('HINCRBY', read_groups_key, uid, 1)
  end
end
return #uids
