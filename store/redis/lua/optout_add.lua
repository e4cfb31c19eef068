-- Adds an opt-out where there is none. A repeated one does not bring back an erased address.
-- One repeated by another reference loses its own: an undo of the first must not lift the second.
-- KEYS person; ARGV field, opt-out, address, reference. 1: added. 2: this very one was there. 0: another was.
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then
	local text = redis.call('HGET', KEYS[1], ARGV[1])
	if text == ARGV[2] then return 2 end
	local stands = cjson.decode(text)
	if stands.ref and stands.ref ~= ARGV[4] then
		stands.ref = nil
		redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(stands))
	end
	return 0
end
if ARGV[3] ~= '' then redis.call('HSETNX', KEYS[1], 'a', ARGV[3]) end
return 1
