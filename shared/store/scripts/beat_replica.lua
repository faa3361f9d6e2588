-- A replica's heartbeat. ARGV: replica, then each job that it reads and the number of its join.
-- Returns {'unknown'} (its lease is gone) or {'ok', strays, missing}. strays: jobs that are registered and that it does
-- not read (job, number, …). missing: unfinished jobs that it reads and that are not registered, or are paused.
write_although_full()
local replica = ARGV[1]
if redis.call('SISMEMBER', REPLICAS, replica) == 0 then return {'unknown', {}, {}} end
redis.call('HINCRBY', replica_key(replica), 'beat', 1)
local followed, missing = {}, {}
for i = 2, #ARGV, 2 do
  followed[ARGV[i]] = ARGV[i + 1]
  local job = try(redis.call, 'HMGET', job_key(ARGV[i]), 'status', 'paused_ms') or {}
  if job[1] and not is_terminal(job[1]) then
    local registered = redis.call('HGET', replica_jobs_key(replica), ARGV[i])
    if registered ~= ARGV[i + 1] or (job[2] and job[2] ~= '') then missing[#missing + 1] = ARGV[i] end
  end
end
local strays, registered = {}, redis.call('HGETALL', replica_jobs_key(replica))
for i = 1, #registered, 2 do
  if not followed[registered[i]] then
    strays[#strays + 1] = registered[i]
    strays[#strays + 1] = registered[i + 1]
  end
end
return {'ok', strays, missing}
