-- Notes what a person was told, unless something later stands. Its value: 19 digits of its time, then JSON.
-- KEYS person; ARGV field, value.
local stands = redis.call('HGET', KEYS[1], ARGV[1])
if not stands or string.sub(stands, 1, 19) <= string.sub(ARGV[2], 1, 19) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
