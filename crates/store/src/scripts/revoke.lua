-- Remembers a revocation, forgets those whose tokens have expired, and tells every gateway.
--
-- KEYS  revocations: hash of field to '<issued until>:<remember until>'
-- ARGV  1 field   2 issued until, s   3 remember until, s   4 now, s   5 control channel   6 message
local key, field, issued, remember, now = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  local known_issued, known_remember = string.match(all[i + 1], '^(%d+):(%d+)$')
  if not known_remember or tonumber(known_remember) < now then
    redis.call('HDEL', key, all[i])
  elseif all[i] == field then
    -- An older revocation never shortens a newer one.
    if tonumber(known_issued) > tonumber(issued) then issued = known_issued end
    if tonumber(known_remember) > tonumber(remember) then remember = known_remember end
  end
end
redis.call('HSET', key, field, issued .. ':' .. remember)
redis.call('PUBLISH', ARGV[5], ARGV[6])
