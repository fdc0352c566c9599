-- Appends a live message to a list that holds the last ones.
-- KEYS  list   ARGV  message, most entries, age in s, '1': only if the list does not hold it
if ARGV[4] == '1' and redis.call('LPOS', KEYS[1], ARGV[1]) then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], '-' .. ARGV[2], '-1')
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
