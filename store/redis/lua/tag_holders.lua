-- Gives a tag to users and takes it from users, as far as one source is concerned.
--
-- 1. A repeat is answered with the id of the first time.
-- 2. Judge it: does the tag exist; may the user follow it, or do they drop what they follow.
-- 3. Users whose maps have not followed an earlier change yet are brought to that first.
-- 4. Change the source's set; bring the users' maps into line; write the list of permissions and the outbox. Where there
--    are several shards, sets and maps lie in those of the users: what follows there is on their links.
--
-- A user's own command comes with its repeat key; their `account` is charged with `charge` ('': it is not judged). The
-- first `adding` users are given the tag, the others lose it. `looked_up`: what `tag_look.lua` said of users of other shards,
-- one after the other.
--
-- The reply: what became of it; the id of the change (0: there is none); users the source gave it to; users it took it
-- from; what is on links now, as `include/links.lua` says. AGAIN: nothing was done, as a change up to this id may have
-- been on its way when the users were looked at.
--
-- include batch outbox holders budget looking tag_rights
-- guarded
-- KEYS propagating (repeat)...
-- ARGV tag:text source:text repeat_seconds:s account:text charge:text looked_up:text adding:count (uid:uid)...
-- REPLY outcome=DONE|REPEATED|UNCHANGED|AGAIN id added removed links
-- ERROR EMPTY BEHIND OUTBOXFULL REFUSED RATE

local repeat_key = KEYS[FIRST_KEY]
local actor = repeat_key and ARGV[FIRST_ARGUMENT] or channel
local known = repeat_key and redis.call('GET', repeat_key)
if known then
  return { 'REPEATED', tonumber(known), 0, 0, links }
end
if charge ~= '' and is_spent(account) then
  return redis.error_reply('RATE')
end

local source_key = holders_prefix .. source .. ':' .. tag
local fields = redis.call('HMGET', tag_key, 'made', 'deleted', 'followable', 'swapped')
if not fields[1] or fields[2] then
  return redis.error_reply('REFUSED unknown_tag')
end

local changing = {}
for _, part in ipairs(looked_up ~= '' and { cmsgpack.unpack(looked_up) } or {}) do
  local uids = {}
  for uid, held in pairs(part.users) do
    uids[#uids + 1], elsewhere[uid] = uid, held
  end
  local since = changed_since(uids, part.clock, shard_among(uids[1], shards), last)
  if since or tonumber(fields[4] or 0) > part.clock then
    return { 'AGAIN', math.max(since or 0, tonumber(fields[4] or 0)), 0, 0, links }
  end
end

-- The sources, as bits, by which a user holds the tag.
local function holds_by(uid)
  return elsewhere[uid] and elsewhere[uid][1] or sources_of(tag, uid)
end

local function has_it(uid)
  if elsewhere[uid] then
    return math.floor(elsewhere[uid][1] / SOURCE_BITS[source]) % 2 == 1
  end
  return redis.call('SISMEMBER', source_key, uid) == 1
end

if repeat_key and fields[3] ~= '1' and not has_it(ARGV[FIRST_ARGUMENT]) then
  return redis.error_reply('REFUSED not_followable')
end

local at = redis.call('HGET', propagating_key, tag)
local id = digits(last + 1)
redis.call('SET', clock_key, id)

-- By shard: who is given the tag there, and who loses it.
local there = {}

-- Changes the source's set; whether that changed it.
local function change_set(uid, given)
  local theirs = elsewhere[uid]
  if not theirs then
    return redis.call(given and 'SADD' or 'SREM', source_key, uid) == 1
  end
  if has_it(uid) == given then
    return false
  end
  theirs[1] = theirs[1] + (given and 1 or -1) * SOURCE_BITS[source]
  local shard = shard_among(uid, shards)
  there[shard] = there[shard] or { {}, {} }
  table.insert(there[shard][given and 1 or 2], uid)
  changing[#changing + 1] = uid
  return true
end

local added, removed = 0, 0
for index = FIRST_ARGUMENT, #ARGV do
  local uid, given = ARGV[index], index < FIRST_ARGUMENT + adding
  if at then
    bring(uid, holds_by(uid), at)
  end
  if change_set(uid, given) then
    added, removed = added + (given and 1 or 0), removed + (given and 0 or 1)
    if bring(uid, holds_by(uid), id) then
      permit(actor, uid, given)
    end
  end
end
local changed = added + removed > 0
if charge ~= '' then
  spend(account, tonumber(charge))
end
if repeat_key then
  redis.call('SET', repeat_key, changed and id or '0', 'EX', repeat_seconds)
end
local lines = finish_holders(id)
if lines ~= '' then
  redis.call('HSET', tag_key, 'changed', id)
  put_into_outbox(id .. '-0', 'holder', tag .. lines)
end
for shard, uids in pairs(there) do
  put_on_link(shard, id, { 'holders', tag, channel, source, id, uids[1], uids[2] })
end
if #changing > 0 then
  note_changing(changing, id)
end
write_links(id)
to_wake = brought
finish()
return { changed and 'DONE' or 'UNCHANGED', changed and tonumber(id) or 0, added, removed, links }
