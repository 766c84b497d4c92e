-- The devices of those users who are online, by one look at each bitmap.
--
-- The reply has, per user who is online: uid, { clientid, connected_at, … }.
--
-- KEYS devices_prefix bitmap_prefix
-- ARGV users_per_bitmap:count (uid:uid)...
-- REPLY users

local bitmaps = {}
local reply = {}
for index = FIRST_ARGUMENT, #ARGV do
  local uid = ARGV[index]
  local bit_number = tonumber(uid) % users_per_bitmap
  local name = string.format('%.0f', (tonumber(uid) - bit_number) / users_per_bitmap)
  local bitmap = bitmaps[name]
  if not bitmap then
    bitmap = redis.call('GET', bitmap_prefix .. name) or ''
    bitmaps[name] = bitmap
  end
  local byte = string.byte(bitmap, math.floor(bit_number / 8) + 1) or 0
  if bit.band(byte, bit.rshift(128, bit_number % 8)) ~= 0 then
    reply[#reply + 1] = uid
    reply[#reply + 1] = redis.call('HGETALL', devices_prefix .. uid)
  end
end
return reply
