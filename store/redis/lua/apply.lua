-- Applies entries of the link from the home to this shard, in their order and each once.
--
-- An entry of an earlier life of the home than is known here is refused, and one that was applied is passed over. One
-- that does not follow the last applied one is not applied: what lies between has to come first. After so many
-- deliveries it stops; the rest has to come again.
--
-- Where an item cannot be applied, nothing behind it is. Items of the entry `careful` are applied one by one, but for those
-- that are `passed` over (places with a space between).
--
-- `clock_now` is the home's clock, and `tail` the id of the newest entry then (below 0: it is not known): where that is
-- applied, this shard has everything up to that clock. Per entry: its id, that of the one before it, the id up to which this
-- shard has everything once it is applied, and its items.
--
-- The reply: what became of it; the id of the last entry that is applied; and of what failed the entry's id, its place in
-- there (0: some item; -1: it is not known here), why, and the item. GAP: one is missing after it. STALE: a later life of
-- the home is known here. LIFE: the home's life is not known here yet.
--
-- include timelines intervals states tag_map swapping online events
-- guarded
-- KEYS applied heads wakeups here_prefix channel_prefix changed_groups tag_prefix ban_prefix bans
-- ARGV life:count clock_now:us tail:us careful:id passed:text (id:id before:id complete:id data:text)...
-- REPLY outcome=OK|GAP|STALE|LIFE|FAILED applied failed
-- ERROR EMPTY

local MAX_DELIVERIES = 2000

local known = redis.call('HMGET', applied_key, 'life', 'id')
local known_life, applied = tonumber(known[1] or 1), known[2] or '0'
if life < known_life then
  return { 'STALE', tonumber(applied), {} }
end
if life > known_life then
  return { 'LIFE', tonumber(applied), {} }
end

local dormant, to_wake, deliveries = {}, {}, 0
-- Looking whether a user is online takes that part of a delivery.
local LOOKS_PER_DELIVERY = 4
-- Messages that a receiver who is offline missed: the names of these, and the record.
local missed = {}
local mids, records, written

local function deliver(uids, without, mid, record)
  local places = {}
  find_dormant(uids, dormant)
  find_unseen(uids, dormant)
  local skipped = without and setmetatable({ [without] = true }, { __index = dormant }) or dormant
  write_inboxes(uids, skipped, mid, places)
  mids[#mids + 1], records[#records + 1], written[#written + 1] = mid, record, places
  to_wake[#to_wake + 1] = table.concat(uids, ' ')
  deliveries = deliveries + #uids
end

-- Tells of those receivers of a message, but for its sender, who are offline. limit: what waiting events may take.
local function tell_offline(uids, record, limit)
  event_limit = limit
  local sender, away = string.match(record, '^%d+\n[^\n]*\n([^\n]*)\n'), {}
  look_up(uids)
  for _, uid in ipairs(uids) do
    if uid ~= sender and not is_online(uid) then
      away[#away + 1] = uid
    end
  end
  if #away > 0 then
    missed[#missed + 1] = table.concat(away, ' ') .. '\n' .. record
  end
  deliveries = deliveries + math.ceil(#uids / LOOKS_PER_DELIVERY)
end

local ITEMS = {}

-- In this and the next two, `tells`: what waiting events may take, if it is to be told who is offline.
function ITEMS.inbox(uids, mid, record, tells)
  deliver(uids, nil, mid, record)
  if tells then
    tell_offline(uids, record, tells)
  end
end

function ITEMS.group(gid, mid, record, without, tells)
  local uids = redis.call('ZRANGE', here_prefix .. gid, 0, -1)
  deliver(uids, without, mid, record)
  if tells then
    tell_offline(uids, record, tells)
  end
end

function ITEMS.channel(channel, mid, record, tells)
  local places = {}
  write_channel(channel_prefix .. channel, mid, places)
  redis.call('HSET', heads_key, channel, mid)
  mids[#mids + 1], records[#records + 1], written[#written + 1] = mid, record, places
  to_wake[#to_wake + 1] = channel
  deliveries = deliveries + 1
  if tells then
    tell_offline(redis.call('ZRANGE', here_prefix .. string.match(channel, '%d+$'), 0, -1), record, tells)
  end
end

function ITEMS.told(channel, changed, mid, record, always)
  if always or redis.call('ZSCORE', channel_prefix .. channel, changed) then
    ITEMS.channel(channel, mid, record)
  end
end

function ITEMS.replace(mid, record)
  local bodies = bodies_prefix .. span_of(mid)
  if redis.call('HEXISTS', bodies, mid) == 1 then
    redis.call('HSET', bodies, mid, record)
  end
end

-- The entry in hand: the home may lose it, and must know then what to put right here.
local entry

local function begin_here(gid, channel, id, uid)
  begin_interval(channel_map_prefix .. uid, channel, id)
  redis.call('ZADD', here_prefix .. gid, id, uid)
  redis.call('ZADD', changed_groups_key, entry, gid)
  to_wake[#to_wake + 1] = uid
end

local function end_here(gid, channel, id, uid)
  end_interval(channel_map_prefix .. uid, channel, id)
  redis.call('ZREM', here_prefix .. gid, uid)
  redis.call('ZADD', changed_groups_key, entry, gid)
  to_wake[#to_wake + 1] = uid
end

function ITEMS.state(uid, name, id, value, going)
  for _, gone in ipairs(going) do
    forget_state(uid, gone)
  end
  write_state(uid, name, id, value)
  to_wake[#to_wake + 1] = uid
end

ITEMS.joined, ITEMS.left = begin_here, end_here

-- The members are these, a uid each, from an id on: nothing changes below it.
function ITEMS.members(gid, channel, id, uids)
  local stay = {}
  for _, uid in ipairs(uids) do
    stay[uid] = true
    if not redis.call('ZSCORE', here_prefix .. gid, uid) then
      begin_here(gid, channel, id, uid)
    end
  end
  for _, uid in ipairs(redis.call('ZRANGE', here_prefix .. gid, 0, -1)) do
    if not stay[uid] then
      end_here(gid, channel, id, uid)
    end
  end
  deliveries = deliveries + #uids
end

-- A ban that has ended by now is gone at once.
function ITEMS.ban(uid, ends_at, kept)
  redis.call('ZREMRANGEBYSCORE', bans_key, '-inf', now_ms)
  if ends_at == '0' then
    redis.call('DEL', ban_prefix .. uid)
    redis.call('ZREM', bans_key, uid)
  else
    redis.call('SET', ban_prefix .. uid, kept, 'PXAT', ends_at)
    redis.call('ZADD', bans_key, ends_at, uid)
  end
end

-- A source gives a tag to some users, and takes it from others.
function ITEMS.holders(tag, channel, source, id, given, taken)
  local at, more = redis.call('HGET', propagating_key, tag), 0
  for command, uids in pairs({ SADD = given, SREM = taken }) do
    for _, uid in ipairs(uids) do
      -- First what is being propagated.
      for _, since in ipairs(at and { at, id } or { id }) do
        if since == id then
          redis.call(command, holders_prefix .. source .. ':' .. tag, uid)
        end
        local held = sources_of(tag, uid) > 0
        local _, changed = bring_map(uid, channel, held, since)
        more = more + (changed and (held and 1 or -1) or 0)
      end
      to_wake[#to_wake + 1] = uid
    end
    deliveries = deliveries + #uids
  end
  if more ~= 0 then
    redis.call('HINCRBY', tag_prefix .. tag, 'holders', more)
  end
end

-- A rebuild may have done it, or the shard lost what was staged.
function ITEMS.swap(tag, id, job, count)
  local is_lost = count > 0 and redis.call('EXISTS', staged_prefix .. job) == 0
  if not is_lost and redis.call('HGET', propagating_key, tag) ~= id then
    swap(tag, id, job, count)
  end
end

local function apply_items(items, first, last)
  mids, records, written = {}, {}, {}
  for place = first, last do
    ITEMS[items[place][1]](unpack(items[place], 2))
  end
  write_bodies(mids, records, written)
end

-- What failed of an entry, nil if nothing did.
local function apply_entry(id, items)
  for _, item in ipairs(items) do
    if not ITEMS[item[1]] then
      return { id, -1, 'what is on the link is not known here: ' .. tostring(item[1]), cmsgpack.pack(item) }
    end
  end
  local is_passed = {}
  for place in string.gmatch(id == careful and passed or '', '%d+') do
    is_passed[tonumber(place)] = true
  end
  for first = 1, id == careful and #items or 1 do
    local ok, failure = true, nil
    if not is_passed[first] then
      ok, failure = pcall(apply_items, items, first, id == careful and first or #items)
    end
    if not ok then
      found = {}
      local why = type(failure) == 'table' and failure.err or tostring(failure)
      return { id, id == careful and first or 0, why, cmsgpack.pack(items[first]) }
    end
  end
end

local clock = tonumber(state[2] or 0)
local outcome, failed = 'OK', nil
for argument = FIRST_ARGUMENT, #ARGV, 4 do
  local id = ARGV[argument]
  if tonumber(id) > tonumber(applied) then
    if ARGV[argument + 1] ~= applied then
      outcome = 'GAP'
      break
    end
    if deliveries >= MAX_DELIVERIES then
      break
    end
    entry = id
    local told = #missed
    failed = apply_entry(id, cmsgpack.unpack(ARGV[argument + 3]))
    if failed then
      -- It comes again, and is told of then.
      for index = #missed, told + 1, -1 do
        missed[index] = nil
      end
      break
    end
    applied = id
    clock = math.max(clock, tonumber(ARGV[argument + 2]))
    redis.call('HSET', applied_key, 'id', id)
    redis.call('SET', clock_key, string.format('%d', clock))
  end
end
if failed then
  outcome = 'FAILED'
elseif tail > tonumber(applied) then
  outcome = 'GAP'
elseif tail >= 0 and clock_now > clock then
  redis.call('SET', clock_key, string.format('%d', clock_now))
end
put_events(events_key, 'message.offline', missed)
finish_events()
if #to_wake > 0 then
  redis.call('SPUBLISH', wakeups_key, table.concat(to_wake, ' '))
end
return { outcome, tonumber(applied), failed or {} }
