-- KEYS: place, rules. ARGV: exact, at, session, coarse, coarse_at, mode version, mode, ttl in ms.
-- Both keys are hashes. Returns 1 when the position was kept, 0 when it was older than what is known.
local at, session, ttl = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[8])
local rules = redis.call('HMGET', KEYS[2], 'version', 'erased')
if rules[2] and at <= tonumber(rules[2]) then
  return 0
end
if not rules[1] or tonumber(ARGV[6]) > tonumber(rules[1]) then
  redis.call('HSET', KEYS[2], 'version', ARGV[6], 'mode', ARGV[7])
end
redis.call('PEXPIRE', KEYS[2], 2 * ttl)
local known = redis.call('HMGET', KEYS[1], 'at', 'session', 'coarse_at')
if known[1] and (at < tonumber(known[1]) or (session >= 0 and session < tonumber(known[2]))) then
  return 0
end
redis.call('HSET', KEYS[1], 'exact', ARGV[1], 'at', ARGV[2])
if not known[2] or session > tonumber(known[2]) then
  redis.call('HSET', KEYS[1], 'session', ARGV[3])
end
if not known[3] or tonumber(ARGV[5]) > tonumber(known[3]) then
  redis.call('HSET', KEYS[1], 'coarse', ARGV[4], 'coarse_at', ARGV[5])
end
redis.call('PEXPIRE', KEYS[1], ttl)
return 1
