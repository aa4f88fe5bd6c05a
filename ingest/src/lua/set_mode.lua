-- KEYS: rules. ARGV: mode version, mode, its sharing (0 to 2, as in put_position), its end, ttl in ms.
local known = redis.call('HGET', KEYS[1], 'version')
if not known or tonumber(ARGV[1]) > tonumber(known) then
  redis.call('HSET', KEYS[1], 'version', ARGV[1], 'mode', ARGV[2], 'sharing', ARGV[3], 'until', ARGV[4])
end
redis.call('PEXPIRE', KEYS[1], 2 * tonumber(ARGV[5]))
