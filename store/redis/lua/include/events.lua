-- Events for an operator's back end, written by the script whose work they tell of (store/events/).
--
-- `event_kinds`: those that are asked for, a space before and behind each ('': none); nothing is written for others.
-- `event_limit`: what all that waits may take. Over it the oldest go, those of presence before all others, and are counted.
--
-- include event_queues
-- KEYS events events_of_users event_counts
-- ARGV event_kinds:text event_limit:bytes
-- REPLY -

-- In one entry: it is delivered whole.
local MAX_EVENTS, MAX_EVENT_BYTES = 64, 65536
-- Entries that one call drops: more only where the limit was lowered.
local MAX_DROPPED = 1000

local function is_asked_for(kind)
  return event_kinds ~= '' and string.find(event_kinds, ' ' .. kind .. ' ', 1, true) ~= nil
end

-- The entries that this call has put: queue, id of the entry, its bytes, its events.
local events_put = {}

-- Puts items of one kind into a queue, in their order.
local function put_events(queue_key, kind, items)
  local first, lengths, bytes = 1, {}, 0
  for index, item in ipairs(items) do
    lengths[#lengths + 1] = #item
    bytes = bytes + #item
    local following = items[index + 1]
    if not following or #lengths == MAX_EVENTS or bytes + #following > MAX_EVENT_BYTES then
      local data = table.concat(lengths, ' ') .. '\n' .. table.concat(items, '', first, index)
      local id = redis.call('XADD', queue_key, '*', 'k', kind, 'n', #lengths, 'd', data)
      events_put[#events_put + 1] = { queue_key, id, #data + EVENT_ENTRY_BYTES, #lengths }
      first, lengths, bytes = index + 1, {}, 0
    end
  end
end

-- Takes back what was put after there were so many entries.
local function take_back_events(count)
  for index = #events_put, count + 1, -1 do
    redis.call('XDEL', events_put[index][1], events_put[index][2])
    events_put[index] = nil
  end
end

local function drop_oldest_events(over)
  local dropped = 0
  for _, queue_key in ipairs({ events_of_users_key, events_key }) do
    while over > 0 and dropped < MAX_DROPPED do
      local oldest = redis.call('XRANGE', queue_key, '-', '+', 'COUNT', 1)[1]
      if not oldest then
        break
      end
      local kind, number, bytes = remove_events(queue_key, oldest)
      redis.call('HINCRBY', event_counts_key, 'bytes', -bytes)
      redis.call('HINCRBY', event_counts_key, 'dropped ' .. kind, number)
      over, dropped = over - bytes, dropped + 1
    end
  end
end

-- Counts what was put, and drops what is over the limit.
local function finish_events()
  if #events_put == 0 then
    return
  end
  local bytes, number = 0, 0
  for _, put in ipairs(events_put) do
    bytes, number = bytes + put[3], number + put[4]
  end
  redis.call('HINCRBY', event_counts_key, 'written', number)
  local waiting = redis.call('HINCRBY', event_counts_key, 'bytes', bytes)
  if waiting > event_limit then
    drop_oldest_events(waiting - event_limit)
  end
end
