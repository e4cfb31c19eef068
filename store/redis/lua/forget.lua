-- Removes a person of whom at most the address is known, and what was told to it.
-- KEYS person.
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
	if field ~= 'a' and string.sub(field, 1, 2) ~= 'i:' then return 0 end
end
redis.call('UNLINK', KEYS[1])
return 0
