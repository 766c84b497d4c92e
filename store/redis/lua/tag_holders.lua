-- Gives a tag to users and takes it from users, as far as one source is concerned.
--
-- 1. A repeat is answered with the id of the first time.
-- 2. Judge it: does the tag exist; may the user follow it, or do they drop what they follow.
-- 3. Users whose maps have not followed an earlier change yet are brought to that first.
-- 4. Change the source's set; bring the users' maps into line; write the list of permissions and the outbox.
--
-- A user's own command comes with its repeat key; their `account` is charged with `charge` ('': it is not judged). The
-- first `adding` users are given the tag, the others lose it.
--
-- The reply: what became of it; the id of the change (0: there is none); users the source gave it to; users it took it
-- from.
--
-- include batch one_shard outbox holding holders budget
-- guarded
-- KEYS tag propagating (repeat)...
-- ARGV tag:text source:text repeat_seconds:s account:text charge:text adding:count (uid:uid)...
-- REPLY outcome=DONE|REPEATED|UNCHANGED id added removed
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED RATE FAILED

local repeat_key = KEYS[FIRST_KEY]
local actor = repeat_key and ARGV[FIRST_ARGUMENT] or channel
local known = repeat_key and redis.call('GET', repeat_key)
if known then
  return { 'REPEATED', tonumber(known), 0, 0 }
end
if charge ~= '' and is_spent(account) then
  return redis.error_reply('RATE')
end

local source_key = holders_prefix .. source .. ':' .. tag
local fields = redis.call('HMGET', tag_key, 'made', 'deleted', 'followable')
if not fields[1] or fields[2] then
  return redis.error_reply('REFUSED unknown_tag')
end
if repeat_key and fields[3] ~= '1' and redis.call('SISMEMBER', source_key, ARGV[FIRST_ARGUMENT]) == 0 then
  return redis.error_reply('REFUSED not_followable')
end

local at = redis.call('HGET', propagating_key, tag)
local id = digits(last + 1)
redis.call('SET', clock_key, id)
local counts = { SADD = 0, SREM = 0 }
for index = FIRST_ARGUMENT, #ARGV do
  local uid = ARGV[index]
  local command = index < FIRST_ARGUMENT + adding and 'SADD' or 'SREM'
  if at then
    bring(uid, sources_of(tag, uid), at)
  end
  if redis.call(command, source_key, uid) == 1 then
    counts[command] = counts[command] + 1
    if bring(uid, sources_of(tag, uid), id) then
      permit(actor, uid, command == 'SADD')
    end
  end
end
local changed = counts.SADD + counts.SREM > 0
if charge ~= '' then
  spend(account, tonumber(charge))
end
if repeat_key then
  redis.call('SET', repeat_key, changed and id or '0', 'EX', repeat_seconds)
end
if #rows > 0 then
  put_into_outbox(id .. '-0', 'holder', tag .. finish_holders(id))
end
finish()
return { changed and 'DONE' or 'UNCHANGED', changed and tonumber(id) or 0, counts.SADD, counts.SREM }
