-- Removes entries. KEYS base; ARGV of each entry: member, person, message, action.
-- How many there were, then the persons of whom no entry is left.
local base, result = KEYS[1], { 0 }
for i = 1, #ARGV, 4 do
	local member, person, message, action = unpack(ARGV, i, i + 3)
	result[1] = result[1] + redis.call('ZREM', base .. ':at', member)
	redis.call('HDEL', base .. ':entries', string.sub(member, 36))
	redis.call('ZREM', base .. ':message:' .. message, member)
	redis.call('ZREM', base .. ':action:' .. action, member)
	if redis.call('ZREM', base .. ':person:' .. person, member) == 1
		and redis.call('EXISTS', base .. ':person:' .. person) == 0 then
		redis.call('HDEL', base .. ':erased', person)
		result[#result + 1] = person
	end
end
return result
