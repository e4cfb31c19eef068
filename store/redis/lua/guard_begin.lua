-- Looks a guard up, and marks it in flight where it is free. Its value: until, 19 digits; token; a line end; the answer.
-- KEYS guard; ARGV token, now, until, life in milliseconds, 1 to mark it. The answer that stands, empty while another
-- has it in flight, nothing where it is free or token's own mark.
local value = redis.call('GET', KEYS[1])
if value and string.sub(value, 1, 19) > ARGV[2] then
	local cut = string.find(value, '\n', 20, true)
	if cut < #value or string.sub(value, 20, cut - 1) ~= ARGV[1] then return string.sub(value, cut + 1) end
end
if ARGV[5] == '1' then redis.call('SET', KEYS[1], ARGV[3] .. ARGV[1] .. '\n', 'PX', ARGV[4]) end
return false
