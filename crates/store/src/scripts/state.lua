-- Reads a channel's state documents and the head that they belong to. Writes nothing.
--
-- KEYS  state (hash), head, log, leases (hash)
-- ARGV  1 most documents   2 most bytes beyond the first
--       3 '': every document; otherwise only those with a lease of the same name, renewed at most this many ms ago
-- Answers {head or nil, 1 if there are more, {key, document, ...}, ms until the first one leaves the list or nil}.
local most, bytes, within = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local head = redis.call('GET', KEYS[2])
  or string.match(redis.call('LINDEX', KEYS[3], -1) or '', '^{"id":"(%d+%-%w+)",')
  or false
local time = redis.call('TIME')
local oldest = within and time[1] * 1000 + math.floor(time[2] / 1000) - within

-- When the lease with a document's name was renewed last.
local function renewed(key)
  local raw = redis.call('HGET', KEYS[4], key)
  return raw and tonumber(string.match(raw, '^(%d+):')) or 0
end

local documents, seen, cursor, used, first_end = {}, {}, '0', 0, false
repeat
  local page = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', 100)
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local key, document = page[2][i], page[2][i + 1]
    local left = oldest and renewed(key) - oldest
    if not seen[key] and (not left or left > 0) then
      seen[key] = true
      if left then first_end = math.min(first_end or left, left) end
      used = used + #key + #document
      if #documents > 0 and (#documents >= 2 * most or used > bytes) then
        return { head, 1, documents, first_end }
      end
      documents[#documents + 1] = key
      documents[#documents + 1] = document
    end
  end
until cursor == '0'
return { head, 0, documents, first_end }
