-- Notes that a person's entries up to now stay without an address for good.
-- KEYS base; ARGV person.
local base = KEYS[1]
if redis.call('EXISTS', base .. ':person:' .. ARGV[1]) == 1 then
	redis.call('HSET', base .. ':erased', ARGV[1], redis.call('GET', base .. ':seq'))
end
return 1
