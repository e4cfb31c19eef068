-- Moves the free copies of schema 1 into the queue without a name. KEYS base.
local old, new = KEYS[1] .. ':free', KEYS[1] .. ':free:'
if redis.call('EXISTS', old) == 0 then return 0 end
redis.call('ZUNIONSTORE', new, 2, new, old)
redis.call('SADD', KEYS[1] .. ':queues', '')
redis.call('UNLINK', old)
return 1
