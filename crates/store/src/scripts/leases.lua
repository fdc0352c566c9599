-- A channel's leases, for the scripts that write them: what producers promised, and which expiry was published.
--
-- The hash holds name to '<renewed, ms>:<ttl, ms>:<told>:<about>'. `told` is the status published last: 0 (none),
-- 1 (stalled) or 2 (lost). The sorted set holds each name by the moment, in ms, at which its next status is due. A lost
-- lease is not in it.
local LEASES_AGE, MOST_LEASES = '86400', 1000

local function open_leases(hash, due)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local known, touched, added = {}, {}, 0
  redis.call('ZCARD', due)
  local self = { now = now }

  function self.get(name)
    if known[name] == nil then
      local raw = redis.call('HGET', hash, name)
      local renewed, ttl, told, about = string.match(raw or '', '^(%d+):(%d+):(%d):(.*)$')
      known[name] = renewed
        and { renewed = tonumber(renewed), ttl = tonumber(ttl), told = tonumber(told), about = about }
        or false
    end
    return known[name]
  end

  -- `due` of the lease is when its next status is due, false for never. `lease` false: it is forgotten.
  function self.put(name, lease)
    known[name] = lease
    touched[name] = true
  end

  -- Whether there is room for another lease. If there are too many, lost leases are dropped first.
  local function has_room()
    if redis.call('HLEN', hash) + added < MOST_LEASES then
      return true
    end
    local all, gone = redis.call('HGETALL', hash), 0
    for i = 1, #all, 2 do
      if string.match(all[i + 1], '^%d+:%d+:2:') and not touched[all[i]] then
        self.put(all[i], false)
      end
    end
    for name in pairs(touched) do
      gone = gone + (known[name] and 0 or 1)
    end
    return redis.call('HLEN', hash) + added - gone < MOST_LEASES
  end

  -- Takes one step. False if its event must not be published: the status is not true, or was published before.
  function self.apply(step)
    local op, millis, name, about = string.match(step, '^(%l+) (%d+) (%S+) ?(.*)$')
    local lease, span = self.get(name), tonumber(millis)
    if op == 'hold' then
      if lease or has_room() then
        added = added + (lease and 0 or 1)
        self.put(name, { renewed = now, ttl = span, told = 0, about = about, due = now + span })
      end
      return true
    end
    if op == 'renew' then
      if lease then
        lease.renewed, lease.told, lease.due = now, 0, now + lease.ttl
        self.put(name, lease)
      elseif has_room() then
        added = added + 1
        self.put(name, { renewed = now, ttl = span, told = 0, about = '', due = now + span })
      end
      return true
    end
    if op == 'release' then
      if lease then
        self.put(name, false)
      end
      return true
    end
    if not lease then
      return false
    end
    local silent, told = lease.renewed + lease.ttl <= now, lease.told
    if op == 'stalled' and silent and told == 0 then
      lease.told, lease.due = 1, now + span
    elseif op == 'lost' and silent and told > 0 then
      if tonumber(redis.call('ZSCORE', due, name) or now) > now then
        return false
      end
      lease.told, lease.due = 2, false
    elseif op == 'recovered' and not silent and told > 0 then
      lease.told, lease.due = 0, lease.renewed + lease.ttl
    else
      return false
    end
    self.put(name, lease)
    -- A lost lease that was renewed and expired again before `recovered` was published: it is still lost.
    return not (op == 'lost' and told == 2)
  end

  function self.write()
    for name in pairs(touched) do
      local lease = known[name]
      if lease then
        local value = string.format('%.0f:%.0f:%d:%s', lease.renewed, lease.ttl, lease.told, lease.about)
        redis.call('HSET', hash, name, value)
      else
        redis.call('HDEL', hash, name)
      end
      if lease and lease.due then
        redis.call('ZADD', due, string.format('%.0f', lease.due), name)
      else
        redis.call('ZREM', due, name)
      end
    end
    redis.call('EXPIRE', hash, LEASES_AGE)
    redis.call('EXPIRE', due, LEASES_AGE)
  end

  return self
end

