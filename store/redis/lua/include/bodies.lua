-- Where a message lies (store/timelines/spans.py). Its body, the record, is in the hash of its span of time; timelines
-- have its id, those of users in pieces of time. Both are named by the first digits of the id.
--
-- KEYS bodies_prefix
-- ARGV -
-- REPLY -

local PIECE_SECONDS, SPAN_SECONDS = 10000, 1000
-- They expire a day after the window, should nobody take them away before: the clock of this host may step ahead, and
-- must not take what is still in the window.
local MARGIN_SECONDS = 86400

local function piece_of(mid)
  return string.sub(mid, 1, -11)
end

local function span_of(mid)
  return string.sub(mid, 1, -10)
end

-- The seconds until a piece or a span of so many seconds expires. left: the window less the clock (us).
local function expires_in(number, seconds, left)
  return math.max(math.ceil((number + 1) * seconds + left / 1000000) + MARGIN_SECONDS, 1)
end

-- Those of users expire one after another, not at once.
local function piece_expires_in(uid, piece, left)
  return expires_in(tonumber(piece), PIECE_SECONDS, left) + uid % PIECE_SECONDS
end

local function span_expires_in(span, left)
  return expires_in(tonumber(span), SPAN_SECONDS, left)
end

-- The records of ids in order, either way; false where it is gone, as the window has moved beyond it.
local function bodies_of(mids)
  local bodies, count, first = {}, #mids, 1
  local span = count > 0 and span_of(mids[1])
  while first <= count do
    local last, next_span = first, nil
    while last < count do
      next_span = span_of(mids[last + 1])
      if next_span ~= span then
        break
      end
      last = last + 1
    end
    if last == first then
      bodies[first] = redis.call('HGET', bodies_prefix .. span, mids[first])
    else
      local found = redis.call('HMGET', bodies_prefix .. span, unpack(mids, first, last))
      for index = 1, #found do
        bodies[first + index - 1] = found[index]
      end
    end
    first, span = last + 1, next_span
  end
  return bodies
end
