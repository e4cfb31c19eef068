-- Leases those of the copies that are still due and free.
-- KEYS base; ARGV node, now, until, ids. Two lists: id, due, meta, body of each copy; body, data of each body.
local base, node, now, till = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local copies, bodies, seen = {}, {}, {}
for i = 4, #ARGV do
	local id, copy = ARGV[i], base .. ':copy:' .. ARGV[i]
	local due = redis.call('HGET', copy, 'due')
	if due and due <= now and redis.call('ZREM', base .. ':free', due .. id) == 1 then
		redis.call('HSET', copy, 'node', node, 'lease', till)
		redis.call('ZADD', base .. ':leased', 0, till .. id)
		local f = redis.call('HMGET', copy, 'meta', 'body')
		copies[#copies + 1] = id
		copies[#copies + 1] = due
		copies[#copies + 1] = f[1]
		copies[#copies + 1] = f[2]
		if not seen[f[2]] then
			seen[f[2]] = true
			bodies[#bodies + 1] = f[2]
			bodies[#bodies + 1] = redis.call('HGET', base .. ':body:' .. f[2], 'data')
		end
	end
end
return { copies, bodies }
