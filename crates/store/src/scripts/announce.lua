-- Tells every gateway that a client has connected, with a number: the time in microseconds of one server, the same for
-- all gateways.
--
-- KEYS  revocations: not read; in a Cluster it selects that server
-- ARGV  1 control channel   2 message, up to its number
-- Answers the number.
local time = redis.call('TIME')
local number = string.format('%d%06d', time[1], time[2])
redis.call('PUBLISH', ARGV[1], ARGV[2] .. number .. '}')
return number
