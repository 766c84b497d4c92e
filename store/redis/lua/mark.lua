#!lua flags=allow-oom
-- Writes something behind all that was written before, on whatever connection, of which nothing stays.
--
-- WAIT counts the replicas that have what its connection has written; since Redis 7.2, and on Valkey, all replicas have
-- what it has only read.
--
-- KEYS mark
-- ARGV -
-- REPLY written

redis.call('SET', mark_key, '')
return redis.call('DEL', mark_key)
