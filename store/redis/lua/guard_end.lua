-- Stores an answer where none stands, or, with none, gives token's mark up.
-- KEYS guard; ARGV token, now, until, life in milliseconds, answer. 1: done. 0: an answer stands.
local value = redis.call('GET', KEYS[1])
if ARGV[5] == '' then
	if value and string.sub(value, 20) == ARGV[1] .. '\n' then redis.call('DEL', KEYS[1]) end
	return 1
end
if value and string.sub(value, 1, 19) > ARGV[2] and string.find(value, '\n', 20, true) < #value then return 0 end
redis.call('SET', KEYS[1], ARGV[3] .. ARGV[1] .. '\n' .. ARGV[5], 'PX', ARGV[4])
return 1
