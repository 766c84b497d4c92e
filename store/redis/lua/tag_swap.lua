-- What an item on the link would have done: from an id on others hold a tag. For a rebuild, which begins with empty
-- links. Doing it twice changes nothing.
--
-- `job`: under which the new holders are staged, `count` of them; '' if the tag is deleted. The reply is 0 if they are
-- not there any more: then nothing was done.
--
-- include swapping
-- KEYS -
-- ARGV tag:text at:id job:text count:count
-- REPLY done

if redis.call('HGET', propagating_key, tag) ~= at then
  if count > 0 and redis.call('EXISTS', staged_prefix .. job) == 0 then
    return 0
  end
  swap(tag, at, job, count)
end
return 1
