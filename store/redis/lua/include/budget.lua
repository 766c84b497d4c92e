-- What one sender may write in a minute: an account of bytes.
--
-- Expects budget_prefix, budget_most

-- Seconds for which the sender is over it; nil if they are not.
local function seconds_over(sender)
  local key = budget_prefix .. sender
  local spent = redis.call('GET', key)
  if spent and tonumber(spent) >= budget_most then
    return math.max(redis.call('TTL', key), 1)
  end
end

local function spend(sender, bytes)
  local key = budget_prefix .. sender
  if redis.call('INCRBY', key, digits(bytes)) == bytes then
    redis.call('EXPIRE', key, 60)
  end
end
