-- Remove a job that has ended, with all of its keys. ARGV: id, its owner or '' (if the record says it).
local id = ARGV[1]
local job = try(redis.call, 'HMGET', job_key(id), 'status', 'owner') or {}
if job[1] and not is_terminal(job[1]) then return 0 end
redis.call('ZREM', DEADLINES, 'retention:' .. id)
redis.call('ZREM', owner_jobs_key(job[2] or ARGV[2]), id)
try(free_keys, id)
if job[2] then try(count_bytes, id, job[2], 0) end
return redis.call('DEL', job_key(id), job_request_key(id), job_result_key(id), events_key(id))
