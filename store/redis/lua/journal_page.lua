-- Reads a page of an index, forwards or, with REV, backwards.
-- KEYS base, index; ARGV from, to, count, REV or ''. Member and value in turn; the ID begins at byte 36.
local range = ARGV[4] == 'REV' and 'ZREVRANGEBYLEX' or 'ZRANGEBYLEX'
local page = {}
for _, member in ipairs(redis.call(range, KEYS[2], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])) do
	page[#page + 1] = member
	page[#page + 1] = redis.call('HGET', KEYS[1] .. ':entries', string.sub(member, 36)) or ''
end
return page
