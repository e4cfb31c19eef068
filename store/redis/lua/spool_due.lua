-- Frees the leases that have ended, and tells what is due and free in each queue: id, due, body, its bytes, in turn.
-- A freed copy keeps its node's name: it may renew until another claims.
-- KEYS base; ARGV now, count, then the queues to leave out.
local base, upto = KEYS[1], '[' .. ARGV[1] .. '\255'
for _, member in ipairs(redis.call('ZRANGEBYLEX', base .. ':leased', '-', upto, 'LIMIT', 0, 2000)) do
	local id = string.sub(member, 20)
	local f = redis.call('HMGET', base .. ':copy:' .. id, 'due', 'queue')
	redis.call('ZREM', base .. ':leased', member)
	redis.call('HSET', base .. ':copy:' .. id, 'lease', '')
	redis.call('ZADD', base .. ':free:' .. (f[2] or ''), 0, f[1] .. id)
	redis.call('SADD', base .. ':queues', f[2] or '')
end
local skip, found = {}, {}
for i = 3, #ARGV do skip[ARGV[i]] = true end
for _, queue in ipairs(redis.call('SMEMBERS', base .. ':queues')) do
	local free = base .. ':free:' .. queue
	if redis.call('EXISTS', free) == 0 then redis.call('SREM', base .. ':queues', queue) end
	local members = skip[queue] and {} or redis.call('ZRANGEBYLEX', free, '-', upto, 'LIMIT', 0, ARGV[2])
	for _, member in ipairs(members) do
		local id = string.sub(member, 20)
		local body = redis.call('HGET', base .. ':copy:' .. id, 'body')
		found[#found + 1] = id
		found[#found + 1] = string.sub(member, 1, 19)
		found[#found + 1] = body
		found[#found + 1] = redis.call('HSTRLEN', base .. ':body:' .. body, 'data')
	end
end
return found
