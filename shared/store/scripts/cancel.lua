-- End a job that is not over. ARGV: id, status (cancelled | expired | failed), reason, terminal event as
-- JSON, the deadline's member and score that the caller saw, or '', whether the request's key
-- is free again (1|0).
-- Answers the status that the job has now; 'unknown' when there is no such job.
write_although_full()
local id, status, reason = ARGV[1], ARGV[2], ARGV[3]
local job = read(id)
if not job then return 'unknown' end
if is_terminal(job.status) then return job.status end
if status == 'expired' and job.status ~= 'queued' then return job.status end
if ARGV[5] ~= '' and redis.call('ZSCORE', DEADLINES, ARGV[5]) ~= ARGV[6] then return job.status end
local _, _, end_, used = last(id)
if not end_ then return 'unknown' end
close(id, job, status, reason, '', tonumber(job.fence) + 1, 0, end_, used, ARGV[4])
if ARGV[7] == '1' then free_keys(id) end
publish()
return status
