-- Removes what is known of a person, but for the opt-outs. KEYS person. How much there was.
local gone = 0
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
	if string.sub(field, 1, 2) ~= 'o:' then gone = gone + redis.call('HDEL', KEYS[1], field) end
end
return gone
