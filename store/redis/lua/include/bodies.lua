-- Where a message lies (store/timelines/spans.py). Its body, the record, is in the hash of its span of time; timelines
-- have its id, those of users in a sorted set for each span. Both are named by the first digits of the id.
--
-- KEYS bodies_prefix
-- ARGV -
-- REPLY -

local SPAN_SECONDS = 10000
-- They expire a day after the window, should nobody take them away before: the clock of this host may step ahead, and
-- must not take what is still in the window.
local MARGIN_SECONDS = 86400

local function span_of(mid)
  return string.sub(mid, 1, -11)
end

-- The seconds until what lies in a span expires. left: the window less the clock (us).
local function span_expires_in(span, left)
  return math.max(math.ceil((span + 1) * SPAN_SECONDS + left / 1000000) + MARGIN_SECONDS, 1)
end

-- Those of users expire one after another, not at once.
local function inbox_expires_in(uid, span, left)
  return span_expires_in(span, left) + uid % SPAN_SECONDS
end

-- The records of the ids `first` to `last` of a list, which are in order, either way; false where one is gone, as the
-- window has moved beyond it.
local function bodies_of(mids, first, last)
  local bodies = {}
  while first <= last do
    local span, till = span_of(mids[first]), last
    -- Mostly all are of one span.
    if span_of(mids[last]) ~= span then
      till = first
      while span_of(mids[till + 1]) == span do
        till = till + 1
      end
    end
    local found = redis.call('HMGET', bodies_prefix .. span, unpack(mids, first, till))
    if till == last and #bodies == 0 then
      return found
    end
    for index = 1, till - first + 1 do
      bodies[#bodies + 1] = found[index]
    end
    first = till + 1
  end
  return bodies
end
