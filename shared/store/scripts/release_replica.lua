-- End a dead replica's lease and its registrations as a reader. ARGV: replica, maximum number of jobs in this call.
-- Returns how many jobs are left for further calls. At 0 the lease is gone.
write_although_full()
local replica, limit = ARGV[1], tonumber(ARGV[2])
local registered = try(redis.call, 'HGETALL', replica_jobs_key(replica)) or {}
for i = 1, math.min(#registered, 2 * limit), 2 do
  try(leave, registered[i], replica, registered[i + 1])
  redis.call('HDEL', replica_jobs_key(replica), registered[i])
end
publish()
local rest = try(redis.call, 'HLEN', replica_jobs_key(replica)) or 0
if rest == 0 then
  redis.call('DEL', replica_key(replica), replica_jobs_key(replica))
  redis.call('SREM', REPLICAS, replica)
end
return rest
