-- Extends node's leases, also those that have ended and that nobody else took.
-- KEYS base; ARGV node, until, ids. The ids that are node's.
local base, node, till = KEYS[1], ARGV[1], ARGV[2]
local held = {}
for i = 3, #ARGV do
	local id, copy = ARGV[i], base .. ':copy:' .. ARGV[i]
	local f = redis.call('HMGET', copy, 'node', 'lease', 'due', 'queue')
	if f[1] == node then
		if f[2] == '' then
			redis.call('ZREM', base .. ':free:' .. (f[4] or ''), f[3] .. id)
		else
			redis.call('ZREM', base .. ':leased', f[2] .. id)
		end
		redis.call('HSET', copy, 'lease', till)
		redis.call('ZADD', base .. ':leased', 0, till .. id)
		held[#held + 1] = id
	end
end
return held
