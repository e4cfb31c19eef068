-- Reads a page of what waits: member, lease, queue, meta, in turn. KEYS base; ARGV from, count.
local page = {}
for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[1] .. ':all', ARGV[1], '+', 'LIMIT', 0, ARGV[2])) do
	local f = redis.call('HMGET', KEYS[1] .. ':copy:' .. string.sub(member, 20), 'lease', 'queue', 'meta')
	page[#page + 1] = member
	page[#page + 1] = f[1]
	page[#page + 1] = f[2] or ''
	page[#page + 1] = f[3]
end
return page
