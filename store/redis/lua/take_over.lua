-- Shuts out every process that knows only the layout before, and takes over the outbox it has left.
--
-- Without an epoch their scripts refuse everything; as `earlier_rebuild_lock` is held for ever, none of them begins
-- another; and as `earlier_outbox` is not a stream, none of them archives what later versions write. `mark` is what these
-- keys hold then. The reply: DONE; REBUILDING, if one of them is rebuilding just now and must end first; ARCHIVE, if
-- the outbox of this layout must be archived first.
--
-- KEYS outbox outbox_bytes earlier_epoch earlier_outbox earlier_outbox_bytes earlier_rebuild_lock
-- ARGV mark:text
-- REPLY outcome=DONE|REBUILDING|ARCHIVE

if not redis.call('SET', earlier_rebuild_lock_key, mark, 'NX') then
  if redis.call('GET', earlier_rebuild_lock_key) ~= mark then
    return 'REBUILDING'
  end
end
redis.call('DEL', earlier_epoch_key)
if redis.call('TYPE', earlier_outbox_key).ok == 'stream' then
  if redis.call('XLEN', outbox_key) > 0 then
    return 'ARCHIVE'
  end
  redis.call('RENAME', earlier_outbox_key, outbox_key)
  redis.call('SET', outbox_bytes_key, redis.call('GET', earlier_outbox_bytes_key) or '0')
  redis.call('DEL', earlier_outbox_bytes_key)
end
redis.call('SET', earlier_outbox_key, mark)
return 'DONE'
