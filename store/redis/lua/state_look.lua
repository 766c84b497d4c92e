-- Looks in a user's shard at what the home has to know before a state of theirs changes.
--
-- `name` and `value` are those of the state. `channel`: that of the conversation that is marked ('' of a private one);
-- `peer`: who may be told ('' for nobody); `own_topic`: of the user's inbox.
--
-- The reply is for `state.lua`.
--
-- include timelines state_room writers
-- guarded
-- KEYS channel_map
-- ARGV uid:uid name:text value:text channel:text peer:text own_topic:text
-- REPLY looked
-- ERROR EMPTY

local looked = look_at(uid, name, value, window_edge)
looked.clock = tonumber(state[2] or 0)
looked.is_in = channel == '' or redis.call('HEXISTS', channel_map_key, channel) == 1
looked.heard = looked.changes and peer ~= '' and was_heard(uid, own_topic, peer, value) or '0'
return cmsgpack.pack(looked)
