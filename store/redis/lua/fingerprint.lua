-- KEYS meta; ARGV fingerprint. The one that stands.
redis.call('HSETNX', KEYS[1], 'fingerprint', ARGV[1])
return redis.call('HGET', KEYS[1], 'fingerprint')
