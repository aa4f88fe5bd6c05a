-- KEYS: sessions. ARGV: name of the session, session, ttl in ms, at most this many sessions.
-- A hash of name to "<end in ms by this server's clock> <session>": Redis 7.0 has no TTL for a field.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ttl, most = tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now + ttl, ARGV[2]))
local all, live = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local ends = tonumber(string.match(all[i + 1], '^%d+'))
  if ends <= now then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= ARGV[1] then
    live[#live + 1] = {ends, all[i]}
  end
end
if #live >= most then
  table.sort(live, function(a, b) return a[1] < b[1] end)
  for i = 1, #live + 1 - most do
    redis.call('HDEL', KEYS[1], live[i][2])
  end
end
redis.call('PEXPIRE', KEYS[1], ttl)
