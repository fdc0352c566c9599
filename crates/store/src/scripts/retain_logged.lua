-- Sets the retained value if the log's head is this very event: a later event sets the value itself.
-- KEYS  head, retained   ARGV  id, message, age in s
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3]) end
return 0
