-- Milliseconds until the next expiry of a channel's leases is due; nil without one. Writes nothing.
-- KEYS  due
local due = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local time = redis.call('TIME')
return due and math.max(0, math.ceil(due - time[1] * 1000 - time[2] / 1000))
