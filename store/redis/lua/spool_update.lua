-- Writes a copy's meta and next time and gives up node's lease. A repeated call is answered as the first.
-- KEYS base; ARGV node, id, due, meta. 1: done. 0: not node's, or gone.
local base, node, id, due, meta = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local copy = base .. ':copy:' .. id
local f = redis.call('HMGET', copy, 'node', 'lease', 'due', 'meta', 'queue')
local free = base .. ':free:' .. (f[5] or '')
if f[1] == '' and f[3] == due and f[4] == meta then return 1 end
if f[1] ~= node then return 0 end
redis.call('ZREM', base .. ':leased', f[2] .. id)
redis.call('ZREM', free, f[3] .. id)
redis.call('ZREM', base .. ':all', f[3] .. id)
redis.call('HSET', copy, 'node', '', 'lease', '', 'due', due, 'meta', meta)
redis.call('ZADD', free, 0, due .. id)
redis.call('SADD', base .. ':queues', f[5] or '')
redis.call('ZADD', base .. ':all', 0, due .. id)
return 1
