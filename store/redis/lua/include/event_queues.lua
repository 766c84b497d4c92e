-- Keeps events for a back end in two queues: events of presence, which go first where there are too many, and
-- all others. An entry of a queue is events of one kind: `k` the kind, `n` their number, `d` their items behind the lengths.
--
-- KEYS -
-- ARGV -
-- REPLY -

-- The bytes that an entry takes beside its items.
local EVENT_ENTRY_BYTES = 64

-- Takes an entry of XRANGE out of its queue. Returns its kind, and how many events and bytes it was.
local function remove_events(queue_key, entry)
  local id, fields = entry[1], entry[2]
  redis.call('XDEL', queue_key, id)
  return fields[2], tonumber(fields[4]), #fields[6] + EVENT_ENTRY_BYTES
end
