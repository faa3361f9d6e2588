-- What a round of duties begins with, at one moment. ARGV: rank of the first active job that is wanted, how many of
-- them, how many deadlines.
-- Answers workers (worker_instance, lease, number of jobs), all models, active jobs, and deadlines that have passed with
-- when that was, the longest first, and replicas with their beats.
local first = tonumber(ARGV[1])
local workers = {}
for i, worker_instance in ipairs(redis.call('SMEMBERS', WORKERS)) do
  workers[i] = {worker_instance, redis.call('HGETALL', worker_key(worker_instance)),
    redis.call('HLEN', worker_jobs_key(worker_instance))}
end
local replicas = {}
for i, replica in ipairs(redis.call('SMEMBERS', REPLICAS)) do
  replicas[i] = {replica, redis.call('HGET', replica_key(replica), 'beat') or ''}
end
return {workers, redis.call('SMEMBERS', MODELS), redis.call('ZRANGE', ACTIVE, first, first + ARGV[2] - 1),
  redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', now_ms(), 'WITHSCORES', 'LIMIT', 0, ARGV[3]), replicas}
