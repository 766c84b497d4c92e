-- wrk's side of the pull benchmarks; `requests` stands before it: whole requests, sent one after the other.

local position

function init()
  math.randomseed(os.time() + math.floor(os.clock() * 1e6))
  position = math.random(0, #requests - 1)
end

function request()
  position = position % #requests + 1
  return requests[position]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    errors.status + errors.connect + errors.read, errors.timeout, latency:percentile(99)))
end
