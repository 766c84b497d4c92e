-- Who holds a tag from now on: brings users' maps of channels into line, counts them, and notes the archive's rows.
--
-- include tag_map
-- KEYS tag
-- ARGV channel:text
-- REPLY -

local rows, row_of, holders_more, brought = {}, {}, 0, {}
-- By uid, of users of other shards, who were looked at there: the sources by which they hold the tag (bits), and their
-- intervals.
local elsewhere = {}

-- Notes a user's newest interval, and the sources (bits), for the archive; one that was noted before is noted anew.
local function note(uid, spans, sources)
  local joined, left = string.match(spans, '(%d+):(%d*)$')
  if joined then
    local interval = uid .. ':' .. joined
    row_of[interval] = row_of[interval] or #rows + 1
    rows[row_of[interval]] = table.concat({ interval, left == '' and '0' or left, sources }, ':')
  end
end

-- From an id (digits) on the user holds the tag by these sources (bits), or by none. Returns whether the map changed.
local function bring(uid, sources, at)
  local theirs, spans, changed = elsewhere[uid], nil, nil
  if theirs then
    spans = propagated(theirs[2], sources > 0, at)
    theirs[2], changed = spans, spans ~= theirs[2]
  else
    spans, changed = bring_map(uid, channel, sources > 0, at)
    if changed then
      holders_more = holders_more + (sources > 0 and 1 or -1)
      brought[#brought + 1] = uid
    end
  end
  note(uid, spans, sources)
  return changed
end

-- Returns what was noted, as lines for the archive: so it is since an id (digits).
local function finish_holders(id)
  if holders_more ~= 0 then
    redis.call('HINCRBY', tag_key, 'holders', holders_more)
  end
  return #rows > 0 and '\n' .. id .. '\n' .. table.concat(rows, '\n') or ''
end
