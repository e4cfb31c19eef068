-- Appends the entries that are not there yet.
-- KEYS base; ARGV of each entry: id, time, person, message, action, value.
local base = KEYS[1]
for i = 1, #ARGV, 6 do
	local id, at, person, message, action, value = unpack(ARGV, i, i + 5)
	if redis.call('HSETNX', base .. ':entries', id, value) == 1 then
		local member = at .. string.format('%016.0f', redis.call('INCR', base .. ':seq')) .. id
		redis.call('ZADD', base .. ':at', 0, member)
		if person ~= '' then redis.call('ZADD', base .. ':person:' .. person, 0, member) end
		if message ~= '' then redis.call('ZADD', base .. ':message:' .. message, 0, member) end
		if action ~= '' then redis.call('ZADD', base .. ':action:' .. action, 0, member) end
	end
end
return 1
