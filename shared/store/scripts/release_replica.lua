-- End a dead replica's lease: its jobs lose a reader. ARGV: replica, jobs of one call.
-- Returns how many of its jobs are left for further calls; at 0 the lease is gone.
write_although_full()
local replica, limit = ARGV[1], tonumber(ARGV[2])
local registered = redis.call('HGETALL', replica_jobs_key(replica))
for i = 1, math.min(#registered, 2 * limit), 2 do
  leave(registered[i], replica, registered[i + 1])
  redis.call('HDEL', replica_jobs_key(replica), registered[i])
end
publish()
local rest = redis.call('HLEN', replica_jobs_key(replica))
if rest == 0 then
  redis.call('DEL', replica_key(replica), replica_jobs_key(replica))
  redis.call('SREM', REPLICAS, replica)
end
return rest
