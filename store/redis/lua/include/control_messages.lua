-- Control messages that a command writes, all or none; each copy counts `copy_bytes`.
--
-- include batch
-- KEYS -
-- ARGV copy_bytes:bytes
-- REPLY -
-- ERROR EMPTY BEHIND OUTBOXFULL FAILED

-- Their ids, the records, and the timelines that each was written to.
local mids, records, written = {}, {}, {}
local dormant = {}

-- Runs what writes them, then writes their bodies. Where one cannot be written, none is, and the failure is returned.
local function store_or_undo(store_all)
  local ok, failure = pcall(store_all)
  if ok then
    ok, failure = pcall(write_bodies, mids, records, written)
  end
  if not ok then
    for index, places in ipairs(written) do
      erase(mids[index], places)
      take_off_links(mids[index])
    end
    return redis.error_reply('FAILED ' .. (type(failure) == 'table' and failure.err or tostring(failure)))
  end
end

-- What they count for in a budget, here.
local function bytes_written()
  local bytes = 0
  for index, places in ipairs(written) do
    bytes = bytes + #records[index] * 2 + #places * copy_bytes
  end
  return bytes
end
