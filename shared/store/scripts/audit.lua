-- Hold jobs that count as active against the rest of the store. ARGV: for models whose workers have been of the
-- same revisions for long those revisions, as JSON {model: {revision: 1}}; then ids.
-- A job that is over leaves `active`; one that waits is in its queue, or fails when it was begun with a revision
-- of its model that no worker has; one that runs is named by the living worker instance that holds it, or is queued
-- again. Answers the wake-ups to ring: job, model, …; and the jobs that failed.
write_although_full()
local lasting = cjson.decode(ARGV[1])

local function is_outdated(job)
  local revisions = lasting[job.model]
  if job.revision == '' or not revisions or revisions[job.revision] then return false end
  for _, worker_instance in ipairs(redis.call('SMEMBERS', WORKERS)) do
    local worker = redis.call('HMGET', worker_key(worker_instance), 'model', 'revision')
    if worker[1] == job.model and worker[2] == job.revision then return false end
  end
  return true
end

local function fail(id, job)
  local _, _, end_, used = last(id)
  if not end_ then return false end
  local message = 'This job was begun with a revision of the model that no worker serves any more.'
  close(id, job, 'failed', '', '', tonumber(job.fence) + 1, 0, end_, used, failed_event(message, 'model_changed', 500))
  return true
end

local wake_ups, failed = {}, {}
for _, id in ipairs({unpack(ARGV, 2)}) do
  local job = read(id)
  if not job or is_terminal(job.status) then
    redis.call('ZREM', ACTIVE, id)
  elseif job.status == 'queued' then
    if is_outdated(job) and fail(id, job) then
      failed[#failed + 1] = id
    else
      redis.call('ZADD', queued_key(job.model), 'NX', job.score, id)
    end
  elseif redis.call('SISMEMBER', WORKERS, job.worker_instance) == 0
    or redis.call('HGET', worker_jobs_key(job.worker_instance), id) ~= job.claim_token then
    if give_back(id, job, 'worker_died', true) then
      wake_ups[#wake_ups + 1] = id
      wake_ups[#wake_ups + 1] = job.model
    end
  end
end
publish(STORE_SOURCE)
return {wake_ups, failed}
