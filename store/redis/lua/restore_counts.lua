-- Counts a group for its members, and as one of those they read if it is read. For a rebuild, which begins with no
-- counts.
--
-- KEYS  1 the group, 2 its members, 3 users' counts of read-mode groups, 4 users' counts of groups
-- Reply how many members were counted

local group_key, members_key, reads_key, groups_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local is_read = redis.call('HGET', group_key, 'mode') == 'read'
local uids = redis.call('ZRANGE', members_key, 0, -1)
for _, uid in ipairs(uids) do
  redis.call('HINCRBY', groups_key, uid, 1)
  if is_read then
    redis.call('HINCRBY', reads_key, uid, 1)
  end
end
return #uids
