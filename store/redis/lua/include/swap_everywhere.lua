-- The same in all shards, at one id: in the others by an item on their links.
--
-- `parts` has the shards in which it is not propagated yet, where there are several.
--
-- include batch swapping
-- KEYS tag parts
-- ARGV -
-- REPLY -
-- ERROR EMPTY BEHIND OUTBOXFULL

-- counts: by shard, how many users were staged there.
local function swap_everywhere(tag, id, job, counts)
  swap(tag, id, job, counts[1])
  redis.call('HSET', tag_key, 'changed', id)
  if shards == 1 then
    return
  end
  redis.call('HSET', tag_key, 'swapped', id, 'swap', job .. ' ' .. table.concat(counts, ' '))
  for shard = 0, shards - 1 do
    redis.call('SADD', parts_key, shard)
    if shard > 0 then
      put_on_link(shard, id, { 'swap', tag, id, job, counts[shard + 1] })
    end
  end
  write_links(id)
end
