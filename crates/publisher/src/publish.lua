-- Appends events to one channel's log and publishes them: one atomic step.
--
-- KEYS  log (list of messages), head (last id given), retained (last message), state (hash), leases, due,
--       and, where the append is recognised again, the producer's or the idempotency key.
-- ARGV  1 channel as published      2 PUBLISH or SPUBLISH
--       3 most entries of the log   4 age of the log, s      5 how much longer the head stands, s
--       6 '1': retain               7 'no', 'sequence' or 'key'
--       8 number of the first entry 9 age of the last key, s
--       then five per entry: random half, object without '{', state key ('': none), state value ('': remove),
--       lease step ('': none). What is told of a lease is left out where it has been told already.
-- Answers {'ok', id or nil, ...} or {'gap', number expected}.
--
-- Redis does not undo what a failed script has written. So everything that can fail on a key's type is
-- read first, RPUSH (which alone can meet a full memory) is the first write, and PUBLISH comes last: a
-- subscriber that could not be told finds the event in the log.
local log, head_key, retained_key, state_key, once_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[7]
local once = ARGV[7]
local ENTRIES, WIDTH = 10, 5
local count = (#ARGV - ENTRIES + 1) / WIDTH

local function whole(n)
  return string.format('%.0f', n)
end

local length = redis.call('LLEN', log)
local head = redis.call('GET', head_key)
if not head and length > 0 then
  head = string.match(redis.call('LINDEX', log, -1), '^{"id":"([^"]+)",')
end
local offset, previous = 0, '000000'
if head then
  local digits, own = string.match(head, '^(%d+)%-%w%w%w%w%w%w(%w%w%w%w%w%w)$')
  if not digits then
    return redis.error_reply('CREWCAST the channel\'s head is no event id')
  end
  offset, previous = tonumber(digits), own
end

-- The id of the event with this offset, as far as the log still holds it.
local function logged(at)
  local index = at - (offset - length + 1)
  if index < 0 or index >= length then
    return false
  end
  local id = string.match(redis.call('LINDEX', log, whole(index)), '^{"id":"([^"]+)",')
  if id and string.match(id, '^%d+') == whole(at) then
    return id
  end
  return false
end

local function add(a, b)
  local sum = ((a < 58 and a - 48 or a - 87) + (b < 58 and b - 48 or b - 87)) % 36
  return sum < 10 and sum + 48 or sum + 87
end

-- The half of a tag that is an event's own: its random half added to the predecessor's own half, digit by digit. So it
-- stands for all events up to here. The random halves alone would not do: a producer gives an event the same one in
-- every repetition, and a history that was rewritten after a failover, in which other events stand before this one at
-- this very offset, would pass for the one that a reader knows.
local byte, char = string.byte, string.char
local function own_half(before, random)
  local a, b, c, d, e, f = byte(before, 1, 6)
  local u, v, w, x, y, z = byte(random, 1, 6)
  return char(add(a, u), add(b, v), add(c, w), add(d, x), add(e, y), add(f, z))
end

local answer = { 'ok' }
local first, skipped = tonumber(ARGV[8]), 0
if once == 'key' then
  local known = redis.call('GET', once_key)
  if known then
    return { 'ok', known }
  end
elseif once == 'sequence' then
  local last, batch, batch_offset = 0, 1, 1
  local known = redis.call('GET', once_key)
  if known then
    local l, b, o = string.match(known, '^(%d+):(%d+):(%d+)$')
    if not l then
      return redis.error_reply('CREWCAST the producer\'s key holds something else')
    end
    last, batch, batch_offset = tonumber(l), tonumber(b), tonumber(o)
  end
  if first > last + 1 then
    -- A write that changes nothing: a replica refuses it. What a replica lacks is not lost, and the producer, told of
    -- a gap, would double what the replica has yet to receive.
    redis.call('EXPIRE', once_key, ARGV[9])
    return { 'gap', whole(last + 1) }
  end
  skipped = math.min(last - first + 1, count)
  for n = first, first + skipped - 1 do
    answer[#answer + 1] = n >= batch and logged(batch_offset + n - batch)
  end
  if skipped == count then
    return answer
  end
end

local messages, set, removed = {}, {}, {}
local leases, last_id
local first_offset = offset + 1
for i = skipped, count - 1 do
  local at = ENTRIES + i * WIDTH
  local random, tail, key, value, step = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  if step ~= '' and not leases then
    leases = open_leases(KEYS[5], KEYS[6])
  end
  if step == '' or leases.apply(step) then
    offset = offset + 1
    local own = own_half(previous, random)
    last_id = whole(offset) .. '-' .. previous .. own
    previous = own
    answer[#answer + 1] = last_id
    messages[#messages + 1] = '{"id":"' .. last_id .. '",' .. tail
    if key ~= '' then
      if not set[key] and not removed[key] then
        redis.call('HEXISTS', state_key, key)
      end
      set[key] = value ~= '' and value or nil
      removed[key] = value == '' or nil
    end
  else
    answer[#answer + 1] = false
  end
end
if #messages == 0 then
  leases.write()
  return answer
end

local log_age = ARGV[4]
local head_age = whole(log_age + ARGV[5])
if redis.call('RPUSH', log, unpack(messages)) > tonumber(ARGV[3]) then
  redis.call('LTRIM', log, '-' .. ARGV[3], -1)
end
redis.call('SET', head_key, last_id, 'EX', head_age)
redis.call('EXPIRE', log, log_age)
if once == 'sequence' then
  local position = whole(first + count - 1) .. ':' .. whole(first + skipped) .. ':' .. whole(first_offset)
  redis.call('SET', once_key, position, 'EX', ARGV[9])
elseif once == 'key' then
  redis.call('SET', once_key, last_id, 'EX', ARGV[9])
end
if ARGV[6] == '1' then
  redis.call('SET', retained_key, messages[#messages], 'EX', head_age)
end
for key in pairs(removed) do
  redis.call('HDEL', state_key, key)
end
for key, value in pairs(set) do
  redis.call('HSET', state_key, key, value)
end
if next(set) or next(removed) then
  redis.call('EXPIRE', state_key, head_age)
end
if leases then
  leases.write()
end
for i = 1, #messages do
  redis.call(ARGV[2], ARGV[1], messages[i])
end
return answer
