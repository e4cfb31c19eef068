-- Leases one copy, due or not, unless it is leased to another.
-- KEYS base; ARGV node, id, now, until. queue, due, meta, body's data; nothing where it is another's, or gone.
local base, node, id, now, till = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local copy = base .. ':copy:' .. id
local f = redis.call('HMGET', copy, 'queue', 'due', 'meta', 'body', 'node', 'lease')
local queue, due, lease = f[1] or '', f[2], f[6]
if not due or lease ~= '' and lease > now and f[5] ~= node then return {} end
redis.call('ZREM', base .. ':leased', lease .. id)
redis.call('ZREM', base .. ':free:' .. queue, due .. id)
redis.call('HSET', copy, 'node', node, 'lease', till)
redis.call('ZADD', base .. ':leased', 0, till .. id)
return { queue, due, f[3], redis.call('HGET', base .. ':body:' .. f[4], 'data') }
