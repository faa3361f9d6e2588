-- Hold jobs that count as active against the rest of the store. ARGV: ids.
-- A job that is over leaves `active`; one that waits is in its queue; one that runs is named by the living
-- incarnation that holds it, or is queued again. Answers the bells to ring: job, model, …
local bells = {}
for _, id in ipairs(ARGV) do
  local job = read(id)
  if not job or is_terminal(job.status) then
    redis.call('ZREM', ACTIVE, id)
  elseif job.status == 'queued' then
    redis.call('ZADD', queued_key(job.model), 'NX', job.score, id)
  elseif redis.call('SISMEMBER', WORKERS, job.incarnation) == 0
    or redis.call('HGET', worker_jobs_key(job.incarnation), id) ~= job.holder then
    if give_back(id, job, 'worker_died', true) then
      bells[#bells + 1] = id
      bells[#bells + 1] = job.model
    end
  end
end
publish(STORE_SOURCE)
return bells
