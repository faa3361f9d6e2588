-- Begin a replica's lease. ARGV: replica.
redis.call('SADD', REPLICAS, ARGV[1])
redis.call('HSET', replica_key(ARGV[1]), 'beat', 0)
return 'ok'
