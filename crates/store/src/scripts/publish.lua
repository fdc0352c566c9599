-- Appends events to one channel's log and publishes them: one atomic step.
--
-- KEYS  log (list of messages), head (last id given); where an entry needs them or the namespace retains, also
--       retained (last message), state (hash), leases, due; and, where the append is recognised again, the
--       producer's or the idempotency key.
-- ARGV  1 channel as published      2 PUBLISH or SPUBLISH
--       3 most entries of the log   4 age of the log, s      5 age of the head, s
--       6 '1': retain               7 number of the first entry, 'key' or 'no'
--       8 age of the last key, s    9 the entries' random halves, one behind the other
--       then per entry: object without '{', and, with all those keys, state key ('': none), state value ('': remove),
--       lease step ('': none). An event about a lease's status is left out if it was published before.
-- Answers {'ok', id or nil, ...} or {'gap', number expected}.
--
-- Redis does not undo what a failed script has written. So everything that can fail on a key's type is
-- read first, RPUSH (which alone can meet a full memory, and fails on a log of another type) is the first write, and
-- PUBLISH comes last: a subscriber that misses the message finds the event in the log.
--
-- A call of a command costs as much as a plain PUBLISH, and an argument a quarter of one. So there are as few of both
-- as possible: nothing is read that an append in its turn does not need.
local call, byte, char, format, match = redis.call, string.byte, string.char, string.format, string.match
local log, head_key = KEYS[1], KEYS[2]
local once = ARGV[7]
local has_once = once ~= 'no'
local once_key = has_once and KEYS[#KEYS]
local is_wide = #KEYS > 3
local ENTRIES, WIDTH = 10, is_wide and 4 or 1
local count = (#ARGV - ENTRIES + 1) / WIDTH

local function whole(n)
  return format('%.0f', n)
end

-- MGET treats a key of another type as missing. GET fails.
local head, known
if has_once then
  local both = call('MGET', head_key, once_key)
  head, known = both[1], both[2] or call('GET', once_key)
end
head = head or call('GET', head_key)
if once == 'key' and known then
  return { 'ok', known }
end
if not head then
  local last = call('LINDEX', log, '-1')
  head = last and match(last, '^{"id":"([^"]+)",')
end
local offset, previous = 0, '000000'
if head then
  local digits, own = match(head, '^(%d+)%-%w%w%w%w%w%w(%w%w%w%w%w%w)$')
  if not digits then
    return redis.error_reply('CREWCAST the channel\'s head is no event id')
  end
  offset, previous = tonumber(digits), own
end

local answer, answered = { 'ok' }, 1
local first, skipped = tonumber(once), 0
if first then
  local last = 0
  if known then
    last = tonumber(match(known, '^(%d+):%d+:%d+$'))
    if not last then
      return redis.error_reply('CREWCAST the producer\'s key holds something else')
    end
  end
  if first > last + 1 then
    -- A write that changes nothing: a Redis replica refuses it. Events that a replica has yet to receive are not lost,
    -- and a producer that is told of a gap would send them twice.
    call('EXPIRE', once_key, ARGV[8])
    return { 'gap', whole(last + 1) }
  end
  if first <= last then
    -- Accepted before: answers the ids of entries of the producer's last batch that the log still holds.
    local batch, batch_offset = match(known, ':(%d+):(%d+)$')
    local length = call('LLEN', log)
    skipped = math.min(last - first + 1, count)
    for n = first, first + skipped - 1 do
      local at, id = batch_offset + (n - batch), nil
      local index = at - (offset - length + 1)
      if n >= tonumber(batch) and index >= 0 and index < length then
        id = match(call('LINDEX', log, whole(index)), '^{"id":"([^"]+)",')
      end
      answered = answered + 1
      answer[answered] = id and match(id, '^%d+') == whole(at) and id or false
    end
    if skipped == count then
      return answer
    end
  end
end

-- The half of a tag that is an event's own: its random half added to the predecessor's own half, digit by digit. So it
-- stands for all events up to here. The random halves alone would not do: a producer gives an event the same one in
-- every repetition. A history that was rewritten after a failover, with other events before this one at the same
-- offset, would pass for the one that a reader knows.
-- Written out: a function call per digit would cost more than the rest of an event.
local a, b, c, d, e, f = byte(previous, 1, 6)
a, b, c = a < 58 and a - 48 or a - 87, b < 58 and b - 48 or b - 87, c < 58 and c - 48 or c - 87
d, e, f = d < 58 and d - 48 or d - 87, e < 58 and e - 48 or e - 87, f < 58 and f - 48 or f - 87
local messages, appended, set, removed = {}, 0, nil, nil
local leases, last_id
local first_offset = offset + 1
-- '%d' is twice as fast, but on a 32-bit server correct only up to this number.
local is_low = offset + count + (first or 0) < 2147483648
local id_format = is_low and '%d-%s%s' or '%.0f-%s%s'
local halves, half = ARGV[9], skipped * 6 - 5
for at = ENTRIES + skipped * WIDTH, #ARGV, WIDTH do
  half = half + 6
  local is_told = true
  if is_wide then
    local key, value, step = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    if step ~= '' then
      leases = leases or open_leases(KEYS[5], KEYS[6])
      is_told = leases.apply(step)
    end
    if is_told and key ~= '' then
      set, removed = set or {}, removed or {}
      if not set[key] and not removed[key] then
        call('HEXISTS', KEYS[4], key)
      end
      set[key] = value ~= '' and value or nil
      removed[key] = value == '' or nil
    end
  end
  answered = answered + 1
  if is_told then
    local u, v, w, x, y, z = byte(halves, half, half + 5)
    a, b = a + (u < 58 and u - 48 or u - 87), b + (v < 58 and v - 48 or v - 87)
    c, d = c + (w < 58 and w - 48 or w - 87), d + (x < 58 and x - 48 or x - 87)
    e, f = e + (y < 58 and y - 48 or y - 87), f + (z < 58 and z - 48 or z - 87)
    a, b, c = a < 36 and a or a - 36, b < 36 and b or b - 36, c < 36 and c or c - 36
    d, e, f = d < 36 and d or d - 36, e < 36 and e or e - 36, f < 36 and f or f - 36
    local own = char(
      a < 10 and a + 48 or a + 87, b < 10 and b + 48 or b + 87, c < 10 and c + 48 or c + 87,
      d < 10 and d + 48 or d + 87, e < 10 and e + 48 or e + 87, f < 10 and f + 48 or f + 87
    )
    offset, appended = offset + 1, appended + 1
    last_id = format(id_format, offset, previous, own)
    previous = own
    answer[answered] = last_id
    messages[appended] = '{"id":"' .. last_id .. '",' .. ARGV[at]
  else
    answer[answered] = false
  end
end
if appended == 0 then
  leases.write()
  return answer
end

local head_age = ARGV[5]
if call('RPUSH', log, unpack(messages)) > tonumber(ARGV[3]) then
  call('LTRIM', log, '-' .. ARGV[3], '-1')
end
call('EXPIRE', log, ARGV[4])
call('SETEX', head_key, head_age, last_id)
if first then
  local position = format(is_low and '%d:%d:%d' or '%.0f:%.0f:%.0f', first + count - 1, first + skipped, first_offset)
  call('SETEX', once_key, ARGV[8], position)
elseif once == 'key' then
  call('SETEX', once_key, ARGV[8], last_id)
end
if ARGV[6] == '1' then
  call('SETEX', KEYS[3], head_age, messages[appended])
end
if set then
  for key in pairs(removed) do
    call('HDEL', KEYS[4], key)
  end
  for key, value in pairs(set) do
    call('HSET', KEYS[4], key, value)
  end
  call('EXPIRE', KEYS[4], head_age)
end
if leases then
  leases.write()
end
local publish, channel = ARGV[2], ARGV[1]
for i = 1, appended do
  call(publish, channel, messages[i])
end
return answer
