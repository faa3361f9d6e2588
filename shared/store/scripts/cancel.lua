-- End a job that has not ended. ARGV: id, status (cancelled | expired | failed), reason, terminal event as JSON, member
-- and score of the deadline as the caller saw it (or ''), whether to free the request's key (1|0).
-- Returns the job's new status, or 'unknown' if there is no such job.
write_although_full()
local id, status, reason = ARGV[1], ARGV[2], ARGV[3]
local job = try(read, id)
if not job then return 'unknown' end
if is_terminal(job.status) then return job.status end
if status == 'expired' and job.status ~= 'queued' then return job.status end
if ARGV[5] ~= '' and redis.call('ZSCORE', DEADLINES, ARGV[5]) ~= ARGV[6] then return job.status end

local function end_job()
  local fence, _, end_, used = last(id)
  if not end_ then return nil end
  close(id, job, status, reason, '', next_fence(job, fence), 0, end_, used, ARGV[4])
  if ARGV[7] == '1' then free_keys(id) end
  return status
end

local ended = try(end_job)
if not ended then
  set_aside(id)
  ended = 'failed'
end
publish()
return ended
