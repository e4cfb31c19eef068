-- Removes an opt-out if it is still the one that was judged.
-- KEYS person; ARGV field, expected. 1: removed. 0: it has changed or gone since.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
