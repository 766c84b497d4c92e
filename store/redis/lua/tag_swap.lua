-- What an item on the link would have done: from an id on others hold a tag. For a rebuild, which begins with empty
-- links. Doing it twice changes nothing.
--
-- `job`: under which the new holders are staged, `count` of them; '' if the tag is deleted. If they are not there any more,
-- either this shard has propagated it: then nothing is done, and the reply is 0. Or the shard was emptied, and has done no
-- step of any change: then those who lose the tag do, and nobody gets it.
--
-- include swapping
-- KEYS tag
-- ARGV tag:text at:id job:text count:count
-- REPLY done

if redis.call('HGET', propagating_key, tag) ~= at then
  if count > 0 and redis.call('EXISTS', staged_prefix .. job) == 0 then
    if redis.call('HEXISTS', tag_key, 'steps') == 1 then
      return 0
    end
    count = 0
  end
  swap(tag, at, job, count)
end
return 1
