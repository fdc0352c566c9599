-- Reads a range of a channel's log. Writes nothing.
--
-- KEYS  log (list of messages), head (last id given)
-- ARGV  1 offset to read after   2 most entries   3 most bytes beyond the first entry
-- Answers {head or nil, first id or nil, id at the offset or nil, {entries}}.
local log, offset, limit, most = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local head = redis.call('GET', KEYS[2])
local length = redis.call('LLEN', log)

-- The id of the entry at an index and its offset; nothing if it is not a logged message.
local function entry(index)
  local id = string.match(redis.call('LINDEX', log, index) or '', '^{"id":"(%d+%-%w+)",')
  return id, id and tonumber(string.match(id, '^%d+'))
end

local last_id, last = entry(-1)
if not last then
  return { head, false, false, {} }
end
-- As in publish.lua: a lost head is replaced by the id of the log's last entry.
head = head or last_id

-- Offsets count the entries. If they do not, another program has written into the list: then only the last entries with
-- consecutive offsets are the log.
local start, first_id, first = 0, entry(0)
if not first or last - first ~= length - 1 then
  start, first_id, first = length - 1, last_id, last
  while start > 0 do
    local id, before = entry(start - 1)
    if before ~= first - 1 then
      break
    end
    start, first_id, first = start - 1, id, before
  end
end

local at = false
if offset >= first and offset <= last then
  at = entry(start + offset - first) or false
end

local entries, bytes = {}, 0
local answer = { head, first_id, at, entries }
local index = start + math.max(offset - first + 1, 0)
while index < length and #entries < limit do
  -- In small pieces: entries beyond the most bytes are read and discarded.
  local piece = redis.call('LRANGE', log, index, index + math.min(16, limit - #entries) - 1)
  for i = 1, #piece do
    if #entries > 0 then
      bytes = bytes + #piece[i]
      if bytes > most then
        return answer
      end
    end
    entries[#entries + 1] = piece[i]
  end
  index = index + #piece
end
return answer
