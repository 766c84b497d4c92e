-- The broker is told who may now subscribe to a tag, or may no longer.
--
-- KEYS permissions
-- ARGV topic:text
-- REPLY -

local function permit(actor, uid, granted)
  redis.call('XADD', permissions_key, '*', 'a', actor, 'u', uid, 't', topic, 'g', granted and '1' or '0')
end
