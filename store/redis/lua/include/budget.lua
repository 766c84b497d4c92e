-- Limits what one sender may write in a minute: an account of bytes. It is named by the minute in which the broker
-- received the message, and the sender.
--
-- include outbox
-- KEYS budget_prefix
-- ARGV budget_limit:bytes
-- REPLY -

local function is_spent(account)
  return tonumber(redis.call('GET', budget_prefix .. account) or 0) >= budget_limit
end

-- It is kept for that minute, and as long for what comes late.
local function spend(account, bytes)
  local key = budget_prefix .. account
  if redis.call('INCRBY', key, digits(bytes)) == bytes then
    redis.call('EXPIRE', key, 120)
  end
end
