-- Removes a person of whom only the address is known.
-- KEYS person.
if redis.call('HLEN', KEYS[1]) == redis.call('HEXISTS', KEYS[1], 'a') then redis.call('UNLINK', KEYS[1]) end
return 0
