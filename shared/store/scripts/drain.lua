-- Tell a worker to leave in order; its next beat is answered so. ARGV: worker instance.
-- Called again: changes nothing. Answers 'ok' or 'unknown' (no living lease).
write_although_full()
if redis.call('SISMEMBER', WORKERS, ARGV[1]) == 0 then return 'unknown' end
redis.call('HSET', worker_key(ARGV[1]), 'drain', 1)
return 'ok'
