-- Adds a body and its copies to a queue, leased to node until they are due.
-- KEYS base; ARGV node, queue, due, body, limit of this shard, then id and meta of each copy. 1: they are there. 0: no room.
local base, node, queue, due, body = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
for i = 6, #ARGV, 2 do
	if redis.call('EXISTS', base .. ':copy:' .. ARGV[i]) == 1 then return 1 end -- a repeated call
end
if tonumber(redis.call('GET', base .. ':bytes') or '0') + #body > tonumber(ARGV[5]) then return 0 end
redis.call('INCRBY', base .. ':bytes', #body)
redis.call('HSET', base .. ':body:' .. ARGV[6], 'data', body, 'refs', (#ARGV - 5) / 2)
for i = 6, #ARGV, 2 do
	local id = ARGV[i]
	redis.call('HSET', base .. ':copy:' .. id, 'queue', queue, 'body', ARGV[6], 'due', due, 'node', node, 'lease', due, 'meta', ARGV[i + 1])
	redis.call('ZADD', base .. ':all', 0, due .. id)
	redis.call('ZADD', base .. ':leased', 0, due .. id)
end
return 1
