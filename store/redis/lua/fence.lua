#!lua flags=allow-oom
-- Changes something and changes it back: from Redis 7.2 on WAIT and WAITAOF are for the last change of their connection.
-- KEYS a key of the server's.
local key = KEYS[1] .. ':fence'
redis.call('SET', key, '')
redis.call('DEL', key)
return 1
