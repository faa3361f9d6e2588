-- Repair active jobs. ARGV: a JSON object {model: {revisions: {revision: 1}, reads: version}} for each model whose
-- workers have not changed for long enough, with what they serve; then job ids.
-- An ended job is removed from `active`. A job that only a newer version can read is left alone. A queued job is added
-- to its queue, unless it is paused; it fails if no worker can continue it. A running job is queued again, unless a
-- living worker instance runs it.
-- Returns the wake-ups to send (job, model, …) and the failed jobs.
write_although_full()
local lasting = cjson.decode(ARGV[1])
local OVER = {completed = true, incomplete = true, failed = true, cancelled = true, expired = true}

-- Whether `serves(revision, version that it reads)` is true for a living worker, which may have started just now.
local function has_worker(model, serves)
  for _, worker_instance in ipairs(redis.call('SMEMBERS', WORKERS)) do
    local worker = redis.call('HMGET', worker_key(worker_instance), 'model', 'revision', 'reads')
    if worker[1] == model and serves(worker[2], tonumber(worker[3] or 1) or 1) then return true end
  end
  return false
end

-- Whether the job uses fields that no worker of its model supports.
local function is_too_new(job)
  local served, needs = lasting[job.model], tonumber(job.needs) or 0
  if not served or needs <= served.reads then return false end
  return not has_worker(job.model, function(_, reads) return reads >= needs end)
end

local function is_outdated(job)
  local served = lasting[job.model]
  if job.revision == '' or not served or served.revisions[job.revision] then return false end
  return not has_worker(job.model, function(revision) return revision == job.revision end)
end

local function fail(id, job, message, code)
  local fence, _, end_, used = last(id)
  if not end_ then return false end
  close(id, job, 'failed', '', '', next_fence(job, fence), 0, end_, used, failed_event(message, code, 500))
  return true
end

-- Fail a queued job that no worker can serve. Returns whether it was failed.
local function fail_unservable(id, job)
  if is_outdated(job) then
    return fail(id, job, 'This job was begun with a revision of the model that no worker serves any more. ' ..
      'Retry it. (Other weights, another tokenizer or another BATON_QUANT make another revision.)',
      'model_changed')
  end
  return is_too_new(job) and fail(id, job, 'No worker of this model has a version that can read this request.',
    'worker_too_old')
end

local wake_ups, failed = {}, {}

local function audit(id)
  local job = read(id)
  if not job or OVER[job.status] then
    redis.call('ZREM', ACTIVE, id)
  elseif is_terminal(job.status) or not is_readable(job) then
    -- belongs to a newer version
  elseif job.status == 'queued' and job.paused_ms ~= '' then
    redis.call('ZREM', queued_key(job.model), id)
    if not redis.call('ZSCORE', DEADLINES, 'paused:' .. id) then set_deadline('paused', id, now_ms()) end
  elseif job.status == 'queued' then
    if fail_unservable(id, job) then
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
  return true
end

for _, id in ipairs({unpack(ARGV, 2)}) do
  if not try(audit, id) then
    set_aside(id)
    failed[#failed + 1] = id
  end
end
publish()
return {wake_ups, failed}
