-- Replaces a contact if it is still what the merge was made from, and notes the address of who has none.
-- KEYS person; ARGV expected, new, address. 1: done. 0: it has changed since.
local stands = redis.call('HGET', KEYS[1], 'c') or ''
if stands ~= ARGV[1] then return 0 end
if stands ~= ARGV[2] then redis.call('HSET', KEYS[1], 'c', ARGV[2]) end
if ARGV[3] ~= '' then redis.call('HSETNX', KEYS[1], 'a', ARGV[3]) end
return 1
