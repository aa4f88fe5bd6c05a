-- KEYS: place, rules. ARGV: exact, at, session, coarse ('' for none), coarse_at, mode version, mode, its sharing, its
-- end, how finely the report may be shown by it, ttl in ms.
-- Both keys are hashes. Sharing is 0 for exact, 1 for coarse, 2 for hidden.
-- Returns 1 when the position was kept, 0 when it was older than what is known.
local at, session, ttl = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[11])
local reported = tonumber(ARGV[10])
local rules = redis.call('HMGET', KEYS[2], 'version', 'erased', 'sharing', 'until')
if rules[2] and at <= tonumber(rules[2]) then
  return 0
end
if not rules[1] or tonumber(ARGV[6]) > tonumber(rules[1]) then
  redis.call('HSET', KEYS[2], 'version', ARGV[6], 'mode', ARGV[7], 'sharing', ARGV[8], 'until', ARGV[9])
else
  local ends = tonumber(rules[4] or 0)
  if ends == 0 or at < ends then
    reported = math.max(reported, tonumber(rules[3] or 2))
  end
end
redis.call('PEXPIRE', KEYS[2], 2 * ttl)
local known = redis.call('HMGET', KEYS[1], 'at', 'session', 'coarse_at')
if known[1] and (at < tonumber(known[1]) or (session >= 0 and session < tonumber(known[2]))) then
  return 0
end
redis.call('HSET', KEYS[1], 'exact', ARGV[1], 'at', ARGV[2], 'reported', reported)
if not known[2] or session > tonumber(known[2]) then
  redis.call('HSET', KEYS[1], 'session', ARGV[3])
end
if reported == 2 then
  redis.call('HDEL', KEYS[1], 'coarse', 'coarse_at')
elseif ARGV[4] ~= '' and (not known[3] or tonumber(ARGV[5]) > tonumber(known[3])) then
  redis.call('HSET', KEYS[1], 'coarse', ARGV[4], 'coarse_at', ARGV[5])
end
redis.call('PEXPIRE', KEYS[1], ttl)
return 1
