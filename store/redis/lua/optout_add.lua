-- Adds an opt-out where there is none. A repeated one does not bring back an erased address.
-- One repeated by another reference loses its own: an undo of the first must not lift the second.
-- KEYS person; ARGV field, opt-out, address, reference. 1: added. 0: it was there.
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then
	local stands = cjson.decode(redis.call('HGET', KEYS[1], ARGV[1]))
	if stands.ref and stands.ref ~= ARGV[4] then
		stands.ref = nil
		redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(stands))
	end
	return 0
end
if ARGV[3] ~= '' then redis.call('HSETNX', KEYS[1], 'a', ARGV[3]) end
return 1
