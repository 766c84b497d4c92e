-- Merges timelines by id into the records of one answer, which is full at `max_records` or `max_bytes`.
--
-- A source of ids, in order, is its `ranges`: a key and two bounds of ZRANGEBYSCORE each. With `next_ranges` it has
-- more ranges behind these, until that returns nil. A small page of each source is read first, and more of the one that
-- runs out first. Sources lie in a heap by the id that each gives next, `id`: the lowest is the first.
--
-- include bodies
-- KEYS -
-- ARGV max_records:count max_bytes:bytes
-- REPLY -

local MAX_PAGE = 128

-- Puts a source in its place in the heap, below which all are in theirs.
local function sink(heap, size, index)
  local source = heap[index]
  while true do
    local child = index * 2
    if child > size then
      break
    end
    if child < size and heap[child + 1].id < heap[child].id then
      child = child + 1
    end
    if source.id <= heap[child].id then
      break
    end
    heap[index] = heap[child]
    index = child
  end
  heap[index] = source
end

-- Brings a source to its next page, the first of which has `first_size` ids at most; false at its end.
local function next_page(source, first_size)
  local size = source.page and MAX_PAGE or first_size
  while true do
    local at = source.at or 1
    local range = source.ranges[at]
    if range and source.ended then
      source.at, source.ended = at + 1, false
    elseif range then
      local page = redis.call('ZRANGEBYSCORE', range[1], range[2], range[3], 'LIMIT', 0, size)
      source.ended = #page < size
      if #page > 0 then
        range[2] = '(' .. page[#page]
        source.page, source.position = page, 1
        return true
      end
    else
      local more = source.next_ranges and source.next_ranges()
      if not more then
        return false
      end
      source.ranges, source.at = more, 1
    end
  end
end

-- Moves a source to its next id; false at its end.
local function advance(source)
  source.position = source.position + 1
  if source.position > #source.page and not next_page(source) then
    return false
  end
  source.id = tonumber(source.page[source.position])
  return true
end

-- Adds the records of the ids `first` to `last` of a list to the answer, but for those that are gone; false once it is
-- full. An answer has 0 or 1 and then `count` records of together `bytes`.
local function give(answer, mids, first, last)
  local bodies = bodies_of(mids, first, last)
  for index = 1, last - first + 1 do
    local record = bodies[index]
    if record then
      if answer.bytes >= max_bytes then
        return false
      end
      answer.count = answer.count + 1
      answer[answer.count + 1] = record
      answer.bytes = answer.bytes + #record
    end
  end
  return true
end

-- Gives the rest of the only source that has any, page by page; false if the answer is full before its end.
local function give_rest(answer, source)
  repeat
    local page, position = source.page, source.position
    while position <= #page do
      local last = math.min(#page, position + max_records - answer.count - 1)
      if last < position or not give(answer, page, position, last) then
        return false
      end
      position = last + 1
    end
  until not next_page(source)
  return true
end

-- Gives what several sources have in the order of their ids until one is left, and then the rest of that; false if the
-- answer is full before their end.
local function give_merged(answer, heap)
  local size, mids, last = #heap, {}, nil
  while size > 1 do
    local source = heap[1]
    local mid = source.page[source.position]
    -- A message may lie in the inbox and, put back from the archive, in a channel.
    if mid ~= last then
      if #mids == MAX_PAGE or answer.count + #mids == max_records then
        if not give(answer, mids, 1, #mids) or answer.count == max_records then
          return false
        end
        mids = {}
      end
      mids[#mids + 1], last = mid, mid
    end
    if not advance(source) then
      heap[1] = heap[size]
      size = size - 1
    end
    sink(heap, size, 1)
  end
  if not give(answer, mids, 1, #mids) then
    return false
  end
  local left = heap[1]
  if left.page[left.position] == last then
    left.position = left.position + 1
  end
  return give_rest(answer, left)
end

-- Returns { 1 if the answer is full before the end of the sources, record, … }.
local function merge(sources)
  local first_size = math.max(1, math.min(MAX_PAGE, math.ceil((max_records + 1) / #sources)))
  local heap = {}
  for _, source in ipairs(sources) do
    if next_page(source, first_size) then
      heap[#heap + 1] = source
    end
  end
  local answer, complete = { 0, count = 0, bytes = 0 }, true
  if #heap == 1 then
    complete = give_rest(answer, heap[1])
  elseif #heap > 1 then
    for index = #heap, 1, -1 do
      heap[index].id = tonumber(heap[index].page[1])
    end
    for index = math.floor(#heap / 2), 1, -1 do
      sink(heap, #heap, index)
    end
    complete = give_merged(answer, heap)
  end
  answer[1] = complete and 0 or 1
  return answer
end
