-- What a script of the home is told of users of other shards, whom the caller looked at there: it counts unless something
-- changed since that their shard did not have yet.
--
-- The sorted set `changing` has for some minutes who was changed in this way, by the id of the change.
--
-- KEYS changing links
-- ARGV -
-- REPLY -

local KEPT_US = 120000000

-- The id up to which their shard must have everything, if that is more than `looked_at`, the id up to which it had it;
-- else nil.
local function changed_since(uids, looked_at, shard, last)
  local newest = 0
  for first = 1, #uids, 5000 do
    local known = redis.call('ZMSCORE', changing_key, unpack(uids, first, math.min(first + 4999, #uids)))
    for _, at in ipairs(known) do
      newest = math.max(newest, tonumber(at or 0))
    end
  end
  if looked_at < last - KEPT_US / 2 then
    newest = math.max(newest, tonumber(redis.call('HGET', links_key, shard) or 0))
  end
  return newest > looked_at and newest or nil
end

-- They change at an id (digits).
local function note_changing(uids, id)
  for _, uid in ipairs(uids) do
    redis.call('ZADD', changing_key, id, uid)
  end
  redis.call('ZREMRANGEBYSCORE', changing_key, '-inf', string.format('%d', tonumber(id) - KEPT_US))
end
