-- Counts a group's members as readers of it, if it is one that is read. For a rebuild, which begins with no counts.
--
-- KEYS  1 the group, 2 its members, 3 users' counts of read-mode groups
-- Reply how many members were counted

local group_key, members_key, reads_key = KEYS[1], KEYS[2], KEYS[3]

if redis.call('HGET', group_key, 'mode') ~= 'read' then
  return 0
end
local uids = redis.call('ZRANGE', members_key, 0, -1)
for _, uid in ipairs(uids) do
  redis.call('HINCRBY', reads_key, uid, 1)
end
return #uids
