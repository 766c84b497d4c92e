-- Gives a lease back, for the process that has it.
--
-- The reply is 1, or 0 if another process has it, or nobody.
--
-- KEYS lease
-- ARGV holder:text
-- REPLY left

if redis.call('GET', lease_key) ~= holder then
  return 0
end
return redis.call('DEL', lease_key)
