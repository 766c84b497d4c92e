-- Writing the outbox, and telling waiting pulls once at the end.
--
-- KEYS outbox outbox_bytes wakeups
-- ARGV -
-- REPLY -

-- Version of the entries' layout; `store/archive/outbox.py` says which ones it reads.
local OUTBOX_VERSION = '1'
-- An archiver stops at a kind that it does not know. The first ones stopped only at a version: at these kinds by this one.
local VERSIONS_OF_KINDS = { moderation = '2', mute = '2', replace = '2', ban = '2', audit = '2', state = '2', state_gone = '2' }

local outbox_bytes = 0
local to_wake = {}

-- Writes a whole number: `%.0f` costs a message three percent more instructions.
local function digits(number)
  return string.format('%d', number)
end

local function put_into_outbox(entry_id, kind, data)
  redis.call('XADD', outbox_key, entry_id, 'k', kind, 'd', data, 'v', VERSIONS_OF_KINDS[kind] or OUTBOX_VERSION)
  outbox_bytes = outbox_bytes + #data + 64
end

-- As if the entry had not been written.
local function take_from_outbox(entry_id, data)
  redis.call('XDEL', outbox_key, entry_id)
  outbox_bytes = outbox_bytes - #data - 64
end

-- Counts what went into the outbox, and tells those named in `to_wake`.
local function finish()
  if outbox_bytes > 0 then
    redis.call('INCRBY', outbox_bytes_key, outbox_bytes)
  end
  if #to_wake > 0 then
    redis.call('SPUBLISH', wakeups_key, table.concat(to_wake, ' '))
  end
end

