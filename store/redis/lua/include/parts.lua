-- A change of very many holders is propagated in one shard after another.
--
-- include links
-- KEYS propagating parts tag
-- ARGV tag:text
-- REPLY -

-- It is done in a shard. Once it is in all, it is over.
local function end_part(shard)
  if shards > 1 then
    redis.call('SREM', parts_key, shard)
    if redis.call('EXISTS', parts_key) == 1 then
      return
    end
    redis.call('HDEL', tag_key, 'swap')
  end
  redis.call('HDEL', propagating_key, tag)
end
