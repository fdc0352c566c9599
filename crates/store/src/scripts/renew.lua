-- Renews existing leases (leases.lua). If an expiry was published, `recovered` is due at once.
-- KEYS leases, due   ARGV ttl in ms, names
local time, ttl = redis.call('TIME'), tonumber(ARGV[1])
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV do
  local told, about = string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^%d+:%d+:(%d):(.*)$')
  if told then
    redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f:%.0f:%s:%s', now, ttl, told, about))
    redis.call('ZADD', KEYS[2], string.format('%.0f', told == '0' and now + ttl or now), ARGV[i])
  end
end
redis.call('EXPIRE', KEYS[1], 86400)
redis.call('EXPIRE', KEYS[2], 86400)
