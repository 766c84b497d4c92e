-- Gives a tag to users and takes it from users, as far as one source is concerned.
--
-- 1. A repeat is answered with the id of the first time.
-- 2. Judge it: is there such a tag; does a user ask for what he may follow, or drop what he follows.
-- 3. Users whose maps have not followed an earlier change yet are brought to that first.
-- 4. Change the source's set; bring the users' maps into line; write the list of permissions and the outbox.
--
-- KEYS  1-10 as in include/batch.lua, 11 the tag, 12 propagating, 13 permissions,
--       14 what the names of sets of holders start with, 15 what the names of users' maps of channels start with,
--       16 what the names of this minute's accounts start with, 17 repeat key, of a user's command
-- ARGV  1-5 as in include/batch.lua, 6 tag, 7 source, 8 most bytes that a user writes in a minute, 9 bytes that the
--       user's account is charged with ('': it is not judged), 10 number of users to give it to; then they; then those
--       to take it from
-- Reply { id of the change (0: nothing to change), 1 if a repeat, users the source gave it to, users it took it from }
-- Error EMPTY | BEHIND | OUTBOXFULL | REFUSED <code> | RATE

-- include batch
local tag_key, propagating_key, permissions_key, holders_prefix, map_prefix, budget_prefix, repeat_key =
  KEYS[11], KEYS[12], KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17]
local tag, source, budget_most, charge, adding = ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9], tonumber(ARGV[10])
local FIRST_USER = 11
local actor = repeat_key and ARGV[FIRST_USER] or 'tag_' .. tag
-- include outbox
-- include holding
-- include holders
-- include budget
local known = repeat_key and redis.call('GET', repeat_key)
if known then
  return { tonumber(known), 1, 0, 0 }
end
if charge ~= '' and is_spent(ARGV[FIRST_USER]) then
  return redis.error_reply('RATE')
end

local source_key = holders_prefix .. source .. ':' .. tag
local fields = redis.call('HMGET', tag_key, 'made', 'deleted', 'followable')
if not fields[1] or fields[2] then
  return redis.error_reply('REFUSED unknown_tag')
end
if repeat_key and fields[3] ~= '1' and redis.call('SISMEMBER', source_key, ARGV[FIRST_USER]) == 0 then
  return redis.error_reply('REFUSED not_followable')
end

local at = redis.call('HGET', propagating_key, tag)
local id = digits(last + 1)
redis.call('SET', clock_key, id)
local counts = { SADD = 0, SREM = 0 }
for index = FIRST_USER, #ARGV do
  local uid = ARGV[index]
  local command = index < FIRST_USER + adding and 'SADD' or 'SREM'
  if at then
    bring(uid, sources_of(tag, uid), at)
  end
  if redis.call(command, source_key, uid) == 1 then
    counts[command] = counts[command] + 1
    if bring(uid, sources_of(tag, uid), id) then
      permit(uid, command == 'SADD')
    end
  end
end
local changed = counts.SADD + counts.SREM > 0
if charge ~= '' then
  spend(ARGV[FIRST_USER], tonumber(charge))
end
if repeat_key then
  redis.call('SET', repeat_key, changed and id or '0', 'EX', repeat_seconds)
end
if #rows > 0 then
  put_into_outbox(id .. '-0', 'holder', tag .. finish_holders(id))
end
finish()
return { changed and tonumber(id) or 0, 0, counts.SADD, counts.SREM }
