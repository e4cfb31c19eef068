-- Adds an opt-out where there is none. A repeated one does not bring back an erased address.
-- KEYS person; ARGV field, opt-out, address. 1: added. 0: it was there.
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
if ARGV[3] ~= '' then redis.call('HSETNX', KEYS[1], 'a', ARGV[3]) end
return 1
