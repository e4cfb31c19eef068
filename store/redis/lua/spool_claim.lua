-- Leases those of the copies that are still due and free.
-- KEYS base; ARGV node, now, until, ids. Two lists: id, queue, due, meta, body of each copy; body, data of each body.
local base, node, now, till = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local copies, bodies, seen = {}, {}, {}
for i = 4, #ARGV do
	local id, copy = ARGV[i], base .. ':copy:' .. ARGV[i]
	local f = redis.call('HMGET', copy, 'queue', 'due', 'meta', 'body')
	local queue, due = f[1] or '', f[2]
	if due and due <= now and redis.call('ZREM', base .. ':free:' .. queue, due .. id) == 1 then
		redis.call('HSET', copy, 'node', node, 'lease', till)
		redis.call('ZADD', base .. ':leased', 0, till .. id)
		for _, v in ipairs({ id, queue, due, f[3], f[4] }) do copies[#copies + 1] = v end
		if not seen[f[4]] then
			seen[f[4]] = true
			bodies[#bodies + 1] = f[4]
			bodies[#bodies + 1] = redis.call('HGET', base .. ':body:' .. f[4], 'data')
		end
	end
end
return { copies, bodies }
