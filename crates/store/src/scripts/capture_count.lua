-- Counts a node or an edge of a knowledge graph, each once, and stores the counts as the channel's state document.
-- HyperLogLogs take 12 KB however many there are; their error is below one percent.
-- KEYS  nodes, edges, state   ARGV  'nodes' or 'edges', item, age in s
redis.call('PFADD', KEYS[ARGV[1] == 'nodes' and 1 or 2], ARGV[2])
local nodes, edges = redis.call('PFCOUNT', KEYS[1]), redis.call('PFCOUNT', KEYS[2])
redis.call('HSET', KEYS[3], 'counts', string.format('{"nodes":%d,"edges":%d}', nodes, edges))
for i = 1, 3 do
  redis.call('EXPIRE', KEYS[i], ARGV[3])
end
return 1
