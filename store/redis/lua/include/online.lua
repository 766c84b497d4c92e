-- Tells who is online: users have a bit each, in bitmaps that neighbours share (`presence.lua` sets them). A call reads each
-- of these once.
--
-- KEYS bitmap_prefix
-- ARGV users_per_bitmap:count
-- REPLY -

local bitmaps = {}

local function is_online(uid)
  local number = tonumber(uid)
  local place = number % users_per_bitmap
  local name = (number - place) / users_per_bitmap
  local bitmap = bitmaps[name]
  if not bitmap then
    bitmap = redis.call('GET', bitmap_prefix .. string.format('%.0f', name)) or ''
    bitmaps[name] = bitmap
  end
  local byte = string.byte(bitmap, math.floor(place / 8) + 1)
  return byte and bit.band(byte, bit.rshift(128, place % 8)) ~= 0
end
