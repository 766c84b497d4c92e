-- A heap of sources by the id that each gives next, `id`: the lowest is the first.
--
-- KEYS -
-- ARGV -
-- REPLY -

-- Puts a source in its place, below which all are in theirs.
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
