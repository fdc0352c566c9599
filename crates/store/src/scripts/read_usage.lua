-- Reads the usage of every replica that has not outlived its age. Writes nothing.
-- KEYS  replicas (report_usage.lua)
-- Answers {replica, usage, ...}.
local time, told = redis.call('TIME'), {}
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local till, usage = string.match(all[i + 1], '^(%d+):(.*)$')
  if till and tonumber(till) > now then
    told[#told + 1] = all[i]
    told[#told + 1] = usage
  end
end
return told
