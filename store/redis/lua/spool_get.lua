-- Reads one copy. KEYS base; ARGV id. queue, due, lease, meta, body's data; nothing where there is none.
local f = redis.call('HMGET', KEYS[1] .. ':copy:' .. ARGV[1], 'queue', 'due', 'lease', 'meta', 'body')
if not f[5] then return {} end
return { f[1] or '', f[2], f[3], f[4], redis.call('HGET', KEYS[1] .. ':body:' .. f[5], 'data') }
