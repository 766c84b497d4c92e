-- Propagates one step of a change of very many holders to the users' maps.
--
-- Takes the next users to look at: first those who hold the tag now, then those who did. Users in both sets stay as
-- they are; the others gain or lose the tag at the id of the change. The archive gets a thousand of them in one entry.
-- Only users who are online are put on the list of permissions; the others get the whole list when they connect.
--
-- One step changes about `max_changed` users and looks at about `max_looked`. The reply: 1 if there is more to do;
-- users looked at; users whose map was changed.
--
-- include batch one_shard outbox holding holders
-- guarded
-- KEYS tag propagating former_prefix pages devices_prefix lines
-- ARGV tag:text max_changed:count max_looked:count
-- REPLY more looked changed
-- ERROR EMPTY BEHIND OUTBOXFULL FAILED

local actor = channel
local PAGE, MAX_PAGES, MAX_LINES = 250, 20, 1000
local at = redis.call('HGET', propagating_key, tag)
if not at then
  return { 0, 0, 0 }
end

local changing, looked, pages = {}, 0, 0
local function add_those_not_in(set, uids)
  looked = looked + #uids
  for index, held in ipairs(redis.call('SMISMEMBER', set, unpack(uids))) do
    if held == 0 then
      changing[#changing + 1] = uids[index]
    end
  end
end

local function take_page()
  pages = pages + 1
  local page = redis.call('LPOP', pages_key)
  if page then
    local uids = {}
    for uid in string.gmatch(page, '%d+') do
      uids[#uids + 1] = uid
    end
    add_those_not_in(former_prefix .. 'profile:' .. tag, uids)
    return true
  end
  for _, source in ipairs(SOURCES) do
    local former = former_prefix .. source .. ':' .. tag
    if redis.call('EXISTS', former) == 1 then
      -- Where the cursor stands for nothing, after a restart, some are left over: it begins anew until nobody is.
      local found = redis.call('SSCAN', former, redis.call('HGET', tag_key, 'cursor') or '0', 'COUNT', PAGE)
      redis.call('HSET', tag_key, 'cursor', found[1])
      if #found[2] > 0 then
        redis.call('SREM', former, unpack(found[2]))
        add_those_not_in(holders_prefix .. source .. ':' .. tag, found[2])
      end
      return true
    end
  end
  return false
end

local more = true
while more and #changing < max_changed and looked < max_looked and pages < MAX_PAGES do
  more = take_page()
end

local sources = {}
for index = 1, #changing do
  sources[index] = 0
end
if #changing > 0 then
  for _, source in ipairs(SOURCES) do
    local name = holders_prefix .. source .. ':' .. tag
    for index, held in ipairs(redis.call('SMISMEMBER', name, unpack(changing))) do
      sources[index] = sources[index] + held * SOURCE_BITS[source]
    end
  end
end

local id = digits(last + 1)
redis.call('SET', clock_key, id)
local changed = 0
for index, uid in ipairs(changing) do
  if bring(uid, sources[index], at) then
    changed = changed + 1
    if redis.call('EXISTS', devices_prefix .. uid) == 1 then
      permit(actor, uid, sources[index] > 0)
    end
  end
end
local lines, waiting = finish_holders(id), 0
if lines ~= '' then
  redis.call('APPEND', lines_key, lines)
  waiting = redis.call('HINCRBY', tag_key, 'waiting', #rows)
end
if waiting >= MAX_LINES or not more and redis.call('EXISTS', lines_key) == 1 then
  put_into_outbox(id .. '-0', 'holder', tag .. redis.call('GET', lines_key))
  redis.call('DEL', lines_key)
  redis.call('HDEL', tag_key, 'waiting')
end
if not more then
  redis.call('HDEL', propagating_key, tag)
  redis.call('HDEL', tag_key, 'cursor')
end
finish()
return { more and 1 or 0, looked, changed }
