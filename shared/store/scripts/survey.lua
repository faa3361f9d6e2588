-- Read what a reaper needs for one round. ARGV: rank of the first active job, maximum number of active jobs, maximum
-- number of deadlines, and the known kinds of deadlines.
-- Returns workers (worker instance, lease, number of jobs), all models, active jobs, passed deadlines with their times
-- (earliest first), and replicas with their heartbeats.
local WINDOWS = 16
local first = tonumber(ARGV[1])
local workers = {}
for i, worker_instance in ipairs(redis.call('SMEMBERS', WORKERS)) do
  workers[i] = {worker_instance, try(redis.call, 'HGETALL', worker_key(worker_instance)) or {},
    try(redis.call, 'HLEN', worker_jobs_key(worker_instance)) or 0}
end
local replicas = {}
for i, replica in ipairs(redis.call('SMEMBERS', REPLICAS)) do
  replicas[i] = {replica, try(redis.call, 'HGET', replica_key(replica), 'beat') or ''}
end
-- Deadlines of unknown kinds, which a newer version has set, must not hide the deadlines behind them.
local kinds, due = {}, {}
for i = 4, #ARGV do kinds[ARGV[i]] = true end
for window = 0, WINDOWS - 1 do
  local found = redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', now_ms(), 'WITHSCORES', 'LIMIT', window * ARGV[3],
    ARGV[3])
  for i = 1, #found, 2 do
    if kinds[string.match(found[i], '^[^:]*')] then
      due[#due + 1] = found[i]
      due[#due + 1] = found[i + 1]
    end
  end
  if #due > 0 or #found < 2 * ARGV[3] then break end
end
return {workers, redis.call('SMEMBERS', MODELS), redis.call('ZRANGE', ACTIVE, first, first + ARGV[2] - 1), due, replicas}
