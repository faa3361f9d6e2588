-- Ask a worker to drain, in the reply to its next heartbeat. ARGV: worker instance.
-- A repeated call changes nothing. Returns 'ok' or 'unknown' (the worker has no lease).
write_although_full()
if redis.call('SISMEMBER', WORKERS, ARGV[1]) == 0 then return 'unknown' end
redis.call('HSET', worker_key(ARGV[1]), 'drain', 1)
return 'ok'
