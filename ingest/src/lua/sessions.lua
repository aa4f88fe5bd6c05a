-- KEYS: sessions. Returns those whose time is not over.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local live = {}
for _, entry in ipairs(redis.call('HVALS', KEYS[1])) do
  local ends, session = string.match(entry, '^(%d+) (.*)$')
  if tonumber(ends) > now then
    live[#live + 1] = session
  end
end
return live
