-- Decides which org owns an id: one atomic step on its directory entry. The caller then updates indexes and logs and
-- tells the gateways. Until it has, the field `pending` says what remains to be done, so that a repeated registration
-- completes one that a lost connection cut short.
--
-- KEYS  the entry: hash {org, crew, pending}
-- ARGV  1 'keep', 'move', 'remove' or 'forget'   2 org   3 crew ('': not given)   4 age, s ('0': no expiry)
-- Answers {'owned', org}, {'kept'} or {'done', crew, pending}. pending: 'no', 'new', 'removing', or 'from:<org>'.
--
-- A removal takes two steps, so that no other org can register the id while the owner's logs exist: 'remove' marks
-- the entry, and 'forget' deletes it when they are gone, unless the owner has registered the id again.
local entry, mode, org, crew, age = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = redis.call('HMGET', entry, 'org', 'crew', 'pending')
local owner, owners_crew, pending = known[1], known[2], known[3]

if owner and owner ~= org and mode ~= 'move' then
  return { 'owned', owner }
end
if mode == 'remove' then
  if not owner then
    return { 'done', '', 'no' }
  end
  redis.call('HSET', entry, 'pending', 'removing')
  return { 'done', owners_crew or '', 'removing' }
end
if mode == 'forget' then
  if owner and pending ~= 'removing' then
    return { 'kept' }
  end
  redis.call('DEL', entry)
  return { 'done', owners_crew or '', owner and 'new' or 'no' }
end
if owner == org and pending == 'removing' then
  pending = 'new'
  redis.call('HSET', entry, 'pending', pending)
end

if owner ~= org then
  pending = owner and 'from:' .. owner or 'new'
  redis.call('HSET', entry, 'org', org, 'pending', pending)
  if crew == '' then
    redis.call('HDEL', entry, 'crew')
    owners_crew = ''
  end
end
if crew ~= '' and crew ~= owners_crew then
  -- A `pending` that is set already covers a changed crew.
  pending = pending or 'new'
  redis.call('HSET', entry, 'crew', crew, 'pending', pending)
  owners_crew = crew
end
if age ~= '0' then
  redis.call('EXPIRE', entry, age)
end
return { 'done', owners_crew or '', pending or 'no' }
