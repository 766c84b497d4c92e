-- Links: what a script of the home has for the timelines of other shards (docs/design.md, "Shards").
--
-- What is put on a link is one entry of it, under the highest id of its items. An entry says which one came before it, in
-- which life of the home it was written, and up to which id its shard has everything once it is applied.
--
-- include shards
-- KEYS links link_prefix link_bytes away
-- ARGV -
-- REPLY -

-- By shard: { items, their ids, the highest of these }.
local waiting = {}
-- What the caller is to carry, but not to shards that are away: per entry shard, id, id of the one before, life, the id up to which it is complete, data,
-- and the ids of its items with a space between.
local links = {}
local shards = 1

local function put_on_link(shard, id, item)
  local entry = waiting[shard]
  if not entry then
    entry = { {}, {}, id }
    waiting[shard] = entry
  end
  entry[1][#entry[1] + 1] = item
  entry[2][#entry[2] + 1] = id
  entry[3] = tonumber(entry[3]) < tonumber(id) and id or entry[3]
end

-- The items with such an id come off again.
local function take_off_links(id)
  for shard, entry in pairs(waiting) do
    local items, ids, highest = {}, {}, nil
    for index, each in ipairs(entry[2]) do
      if each ~= id then
        items[#items + 1], ids[#ids + 1] = entry[1][index], each
        highest = highest and tonumber(highest) > tonumber(each) and highest or each
      end
    end
    waiting[shard] = highest and { items, ids, highest } or nil
  end
end

-- Splits users: returns those of this shard, and by shard those of others.
local function by_shard(uids)
  if shards == 1 then
    return uids, {}
  end
  local here, others = {}, {}
  for _, uid in ipairs(uids) do
    local shard = shard_among(uid, shards)
    if shard == 0 then
      here[#here + 1] = uid
    else
      others[shard] = others[shard] or {}
      table.insert(others[shard], uid)
    end
  end
  return here, others
end

-- Writes what waits; all ids up to `complete` have been given. Where one entry cannot be written, none is.
local function write_links(complete)
  if not next(waiting) then
    return
  end
  local life = redis.call('HGET', links_key, 'life') or '1'
  local entries = waiting
  waiting = {}
  local done, bytes = {}, 0
  local ok, failure = pcall(function()
    for shard, entry in pairs(entries) do
      local before = redis.call('HGET', links_key, shard) or '0'
      local id, data = entry[3], cmsgpack.pack(entry[1])
      local complete = tonumber(id) > tonumber(complete) and id or complete
      redis.call('XADD', link_prefix .. shard, id .. '-0', 'p', before, 'l', life, 'c', complete, 'd', data)
      done[#done + 1] = { shard, id, before, life, complete, data, table.concat(entry[2], ' ') }
      redis.call('HSET', links_key, shard, id)
      bytes = bytes + #data + 64
    end
    redis.call('INCRBY', link_bytes_key, bytes)
  end)
  local away = {}
  for _, shard in ipairs(ok and redis.call('SMEMBERS', away_key) or {}) do
    away[tonumber(shard)] = true
  end
  for _, entry in ipairs(done) do
    if ok and not away[tonumber(entry[1])] then
      links[#links + 1] = entry
    elseif not ok then
      redis.call('XDEL', link_prefix .. entry[1], entry[2] .. '-0')
      redis.call('HSET', links_key, entry[1], entry[3])
    end
  end
  if not ok then
    error(failure, 0)
  end
end
