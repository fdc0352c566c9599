-- Takes the lease of live retention if it is free, or prolongs it for its holder.
-- KEYS  the lease   ARGV  holder, ms
-- Answers 1 for the holder, else 0.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
