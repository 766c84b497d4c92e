-- Tells in a user's shard which of some users have not written to them, as far as the newest messages in their inbox say.
--
-- `own_topic`: of that inbox. The reply: their uids.
--
-- include writers
-- guarded
-- KEYS -
-- ARGV uid:uid own_topic:text (peer:uid)...
-- REPLY strangers
-- ERROR EMPTY

local missing, strangers = {}, {}
for argument = FIRST_ARGUMENT, #ARGV do
  missing[ARGV[argument]] = true
end
have_written(uid, own_topic, missing)
for peer in pairs(missing) do
  strangers[#strangers + 1] = peer
end
return strangers
