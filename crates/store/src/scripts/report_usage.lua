-- Stores the usage of a replica, or removes it, and drops usage that has outlived its age.
--
-- KEYS  replicas: hash of replica to '<until, ms>:<usage>'
-- ARGV  1 replica   2 age, ms   3 usage; '': remove it
local key, time = KEYS[1], redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] == '' then
  redis.call('HDEL', key, ARGV[1])
else
  redis.call('HSET', key, ARGV[1], string.format('%d', now + ARGV[2]) .. ':' .. ARGV[3])
  redis.call('PEXPIRE', key, ARGV[2])
end
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  if tonumber(string.match(all[i + 1], '^(%d+):') or 0) <= now then
    redis.call('HDEL', key, all[i])
  end
end
