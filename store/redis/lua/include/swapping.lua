-- Very many users gain or lose a tag at one id, in this shard: a set takes the place of another. Propagating brings that
-- to the users' maps.
--
-- include holding
-- KEYS former_prefix propagating staged_prefix pages_prefix
-- ARGV -
-- REPLY -

local function make_former(source, tag)
  local name = source .. ':' .. tag
  if redis.call('EXISTS', holders_prefix .. name) == 1 then
    redis.call('RENAME', holders_prefix .. name, former_prefix .. name)
  end
end

-- From an id (digits) on those hold the tag by their profile who are staged under a name, `count` of them; without a
-- name nobody holds it in any way.
local function swap(tag, id, job, count)
  for _, source in ipairs(job == '' and SOURCES or { 'profile' }) do
    make_former(source, tag)
  end
  if count > 0 then
    for from, to in pairs({
      [staged_prefix .. job] = holders_prefix .. 'profile:' .. tag,
      [pages_prefix .. job] = pages_prefix .. tag,
    }) do
      redis.call('RENAME', from, to)
      redis.call('PERSIST', to)
    end
  end
  redis.call('HSET', propagating_key, tag, id)
end
