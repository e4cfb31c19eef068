-- Extends token's mark. KEYS guard; ARGV token, until, life in milliseconds. 1: done. 0: not its mark, or gone.
local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, 20) ~= ARGV[1] .. '\n' then return 0 end
redis.call('SET', KEYS[1], ARGV[2] .. ARGV[1] .. '\n', 'PX', ARGV[3])
return 1
