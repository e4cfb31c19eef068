-- Frees the leases that have ended, and tells what is due and free: id, due, body, its bytes, in turn.
-- A freed copy keeps its node's name: it may renew until another claims.
-- KEYS base; ARGV now, count.
local base, upto = KEYS[1], '[' .. ARGV[1] .. '\255'
for _, member in ipairs(redis.call('ZRANGEBYLEX', base .. ':leased', '-', upto, 'LIMIT', 0, 2000)) do
	local id = string.sub(member, 20)
	redis.call('ZREM', base .. ':leased', member)
	redis.call('HSET', base .. ':copy:' .. id, 'lease', '')
	redis.call('ZADD', base .. ':free', 0, redis.call('HGET', base .. ':copy:' .. id, 'due') .. id)
end
local found = {}
for _, member in ipairs(redis.call('ZRANGEBYLEX', base .. ':free', '-', upto, 'LIMIT', 0, ARGV[2])) do
	local id = string.sub(member, 20)
	local body = redis.call('HGET', base .. ':copy:' .. id, 'body')
	found[#found + 1] = id
	found[#found + 1] = string.sub(member, 1, 19)
	found[#found + 1] = body
	found[#found + 1] = redis.call('HSTRLEN', base .. ':body:' .. body, 'data')
end
return found
