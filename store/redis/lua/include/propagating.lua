-- Propagates one step of a change of very many holders to the maps of this shard's users.
--
-- Takes the next users to look at: first those who hold the tag now, then those who did. Users in both sets stay as
-- they are; the others gain or lose the tag at the id of the change. A step changes about `max_changed` users and looks
-- at about `max_looked`.
--
-- include holders
-- KEYS former_prefix pages devices_prefix
-- ARGV tag:text max_changed:count max_looked:count
-- REPLY -

local PAGE, MAX_PAGES = 250, 20

local changing, looked = {}, 0
local function add_those_not_in(set, uids)
  looked = looked + #uids
  for index, held in ipairs(redis.call('SMISMEMBER', set, unpack(uids))) do
    if held == 0 then
      changing[#changing + 1] = uids[index]
    end
  end
end

local function take_page()
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

-- Returns whether there is more to do, and of how many users the map was changed. at: the id of the change. tell: is
-- called with those of them who are online, and whether they hold the tag; the others get the whole list of topics when
-- they connect.
local function propagate(at, tell)
  local more, pages = true, 0
  while more and #changing < max_changed and looked < max_looked and pages < MAX_PAGES do
    more, pages = take_page(), pages + 1
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
  local changed = 0
  for index, uid in ipairs(changing) do
    if bring(uid, sources[index], at) then
      changed = changed + 1
      if redis.call('EXISTS', devices_prefix .. uid) == 1 then
        tell(uid, sources[index] > 0)
      end
    end
  end
  if not more then
    redis.call('HDEL', tag_key, 'cursor')
  end
  return more, changed
end
