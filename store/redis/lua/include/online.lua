-- Tells who is online: users have a bit each, in bitmaps that neighbours share (`presence.lua` sets them). A call reads each
-- of these once.
--
-- KEYS bitmap_prefix
-- ARGV users_per_bitmap:count
-- REPLY -

local bitmaps = {}
-- Read by one command.
local MAX_BITMAPS = 1000

-- Where the bit of a user is: the number of the bitmap, and the place in it.
local function place_of(uid)
  local number = tonumber(uid)
  local place = number % users_per_bitmap
  return (number - place) / users_per_bitmap, place
end

-- Reads the bitmaps of many users by few commands.
local function look_up(uids)
  local numbers, names = {}, {}
  for index, uid in ipairs(uids) do
    local bitmap = place_of(uid)
    if not bitmaps[bitmap] then
      bitmaps[bitmap] = ''
      numbers[#numbers + 1] = bitmap
      names[#names + 1] = bitmap_prefix .. string.format('%.0f', bitmap)
    end
    if #names == MAX_BITMAPS or #names > 0 and index == #uids then
      for found, bits in ipairs(redis.call('MGET', unpack(names))) do
        bitmaps[numbers[found]] = bits or ''
      end
      numbers, names = {}, {}
    end
  end
end

local function is_online(uid)
  local bitmap, place = place_of(uid)
  if not bitmaps[bitmap] then
    look_up({ uid })
  end
  local byte = string.byte(bitmaps[bitmap], math.floor(place / 8) + 1)
  return byte and bit.band(byte, bit.rshift(128, place % 8)) ~= 0
end
