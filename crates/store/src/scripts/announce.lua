-- Tells every gateway that a client has come, and when: the time of the one server that all of them ask, in microseconds.
--
-- KEYS  revocations: not touched; on a Cluster its server is the one
-- ARGV  1 control channel   2 message, up to its number
-- Answers the number.
local time = redis.call('TIME')
local number = string.format('%d%06d', time[1], time[2])
redis.call('PUBLISH', ARGV[1], ARGV[2] .. number .. '}')
return number
