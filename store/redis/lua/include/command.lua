-- A command of a user: how it is refused, and what it costs who gave it.
--
-- The actor's `account` may have `budget_limit`, of which a command takes `min_charge` at least, and is charged with
-- `charge` beside what it writes ('': it is not judged).
--
-- include budget
-- KEYS -
-- ARGV account:text min_charge:bytes charge:text
-- REPLY -
-- ERROR REFUSED

local function refuse(code)
  return redis.error_reply('REFUSED ' .. code)
end

local function charge_for(bytes)
  if charge ~= '' then
    spend(account, tonumber(charge) + math.max(min_charge, bytes))
  end
end
