-- KEYS meta; ARGV fingerprint, empty to read only. The one that stands, or the empty text.
if ARGV[1] ~= '' then redis.call('HSETNX', KEYS[1], 'fingerprint', ARGV[1]) end
return redis.call('HGET', KEYS[1], 'fingerprint') or ''
