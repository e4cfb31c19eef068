-- Makes those of the copies due now that are not leased.
-- KEYS base; ARGV now, ids. The ids of those.
local base, now = KEYS[1], ARGV[1]
local found = {}
for i = 2, #ARGV do
	local id, copy = ARGV[i], base .. ':copy:' .. ARGV[i]
	local f = redis.call('HMGET', copy, 'queue', 'due', 'lease')
	local queue, due, lease = f[1] or '', f[2], f[3]
	if due and (lease == '' or lease <= now) then
		found[#found + 1] = id
		if due > now then
			redis.call('ZREM', base .. ':all', due .. id)
			redis.call('ZADD', base .. ':all', 0, now .. id)
			if lease == '' then
				redis.call('ZREM', base .. ':free:' .. queue, due .. id)
				redis.call('ZADD', base .. ':free:' .. queue, 0, now .. id)
			end
			redis.call('HSET', copy, 'due', now)
		end
	end
end
return found
