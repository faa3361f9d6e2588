-- Begin a lease. ARGV: worker instance, model, then field and value pairs.
redis.call('SADD', WORKERS, ARGV[1])
redis.call('SADD', MODELS, ARGV[2])
redis.call('HSETNX', MODEL_TIMES, ARGV[2], string.format('%.0f', now_ms()))
redis.call('HSET', worker_key(ARGV[1]), 'model', ARGV[2], 'beat', 0, unpack(ARGV, 3))
return 'ok'
