-- wrk's side of the ingest benchmark. Before it stand `parts`, what is the same in every request, and the uids: `first`
-- and how many `people`.

local text, base64 = {}, {}
local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
for number = 0, 999 do
  local digits = string.format("%03d", number)
  local a, b, c = digits:byte(1, 3)
  local bits, encoded = a * 65536 + b * 256 + c, ""
  for shift = 18, 0, -6 do
    local place = math.floor(bits / 2 ^ shift) % 64 + 1
    encoded = encoded .. alphabet:sub(place, place)
  end
  text[number], base64[number] = digits, encoded
end

local counter, salt
-- When the broker received the messages: the second that has begun. Old ones would count as late.
local received_at

function init()
  math.randomseed(os.time() + math.floor(os.clock() * 1e6))
  counter, salt = 0, {}
  for place = 1, 4 do
    salt[place] = math.random(0, 999)
  end
end

function request()
  if counter % 100 == 0 then
    received_at = string.format("%d000", os.time() + 1)
  end
  counter = counter + 1
  local high, middle, low = math.floor(counter / 1000000) % 1000, math.floor(counter / 1000) % 1000, counter % 1000
  local sender, receiver = first + counter * 7919 % people, first + (counter * 104729 + 1) % people
  local s1, s2, s3, s4 = salt[1], salt[2], salt[3], salt[4]
  return parts[1] .. text[s1] .. text[s2] .. text[s3] .. text[s4] .. text[high] .. text[middle] .. text[low]
    .. parts[2] .. base64[s1] .. base64[s2] .. base64[s3] .. base64[s4] .. base64[high] .. base64[middle] .. base64[low]
    .. parts[3] .. sender .. parts[4] .. sender .. parts[5] .. receiver .. parts[6]
    .. received_at .. parts[7]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    errors.status + errors.connect + errors.read, errors.timeout, latency:percentile(99)))
end
