-- Removes a copy, and its body with the last copy that refers to it.
-- KEYS base; ARGV id. 1: removed. 0: it was gone.
local base, id = KEYS[1], ARGV[1]
local f = redis.call('HMGET', base .. ':copy:' .. id, 'lease', 'due', 'body', 'queue')
if not f[3] then return 0 end
redis.call('ZREM', base .. ':leased', f[1] .. id)
redis.call('ZREM', base .. ':free:' .. (f[4] or ''), f[2] .. id)
redis.call('ZREM', base .. ':all', f[2] .. id)
redis.call('DEL', base .. ':copy:' .. id)
local body = base .. ':body:' .. f[3]
if redis.call('HINCRBY', body, 'refs', -1) <= 0 then
	redis.call('DECRBY', base .. ':bytes', redis.call('HSTRLEN', body, 'data'))
	redis.call('UNLINK', body)
end
return 1
