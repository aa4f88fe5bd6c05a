-- KEYS: place, rules, sessions. ARGV: append time of the erasure, ttl in ms.
redis.call('DEL', KEYS[1], KEYS[3])
redis.call('HDEL', KEYS[2], 'version', 'mode', 'sharing', 'until')
local known = redis.call('HGET', KEYS[2], 'erased')
if not known or tonumber(ARGV[1]) > tonumber(known) then
  redis.call('HSET', KEYS[2], 'erased', ARGV[1])
end
redis.call('PEXPIRE', KEYS[2], 2 * tonumber(ARGV[2]))
