-- Give a worker the first job of its model's queue that it may run.
-- ARGV: model, worker instance, claim token, model revision, first score of normal jobs, first score of low jobs, the
-- version of requests that the worker reads. A worker without a free slot adds a low job that it runs, and its claim
-- token. That job is queued again (`preempted`) with its old score if a high job takes its slot. If no high job is
-- queued, or if the low job may not be preempted, the script returns 'empty'.
-- Returns {'job', its record, its request} | {'empty'} | {'wait'} (a job must run alone first) | {'unknown'} (the
-- worker has no lease).
local model, worker_instance, claim_token, revision = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local NORMAL_FROM, LOW_FROM, READS = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local victim, victim_token = ARGV[8], ARGV[9]
local WINDOW, WINDOWS, PATIENCE_MS, ALONE_FROM = 32, 16, 5000, 2
-- A job is preempted at most this often, and only after this many tokens. A high job first waits this long for a slot.
local MAX_PREEMPTIONS, TOKENS_BEFORE_PREEMPTION, NO_SLOT_MS = 3, 32, 250
if redis.call('SISMEMBER', WORKERS, worker_instance) == 0 then return {'unknown'} end

local function found(id)
  return {'job', redis.call('HGETALL', job_key(id)), redis.call('HGETALL', job_request_key(id))}
end

-- The reply to an earlier call with this token was lost: return the same job.
local held = redis.call('HGETALL', worker_jobs_key(worker_instance))
for i = 1, #held, 2 do
  if held[i + 1] == claim_token then return found(held[i]) end
end

local function must_run_alone(id)
  local job = redis.call('HMGET', job_key(id), 'deaths', 'claim_end')
  if (tonumber(job[1]) or 0) < ALONE_FROM then return false end
  local _, _, end_ = last(id)
  return end_ == job[2]
end
for i = 1, #held, 2 do
  if try(must_run_alone, held[i]) then return {'wait'} end
end

local function num_released(positions)
  local sum = 0
  for position in string.gmatch(positions, '%d+') do sum = sum + tonumber(position) end
  return sum
end

-- Queue the victim again, so that a high job can have its slot. Returns whether it did.
local function preempt()
  local job, _, _, end_ = read(victim), last(victim)
  if not job or job.claim_token ~= victim_token or job.worker_instance ~= worker_instance or not end_ then return false end
  if tonumber(job.score) < LOW_FROM or job.resumable == '0' then return false end
  if num_released(end_) - num_released(job.claim_end) < TOKENS_BEFORE_PREEMPTION then return false end
  if (tonumber(redis.call('HGET', job_key(victim), 'num_preemptions')) or 0) >= MAX_PREEMPTIONS then return false end
  redis.call('HINCRBY', job_key(victim), 'num_preemptions', 1)
  return give_back(victim, job, 'preempted', false)
end

-- Whether there is a slot for a job. If none is free, a high job may preempt the victim.
local function has_room(score, created_ms)
  if not victim then return true end
  return tonumber(score) < NORMAL_FROM and now_ms() - tonumber(created_ms) >= NO_SLOT_MS and preempt()
end

-- Whether all workers that generated tokens of this job compute the same as this one. Records this worker.
local function is_exact(id, end_)
  local own = redis.call('HMGET', worker_key(worker_instance), 'exact', 'fingerprint')
  local made_by = own[1] == '1' and own[2] or 'inexact'
  local before = redis.call('HGET', job_key(id), 'made_by')
  if before and before ~= made_by and string.find(end_, '[1-9]') then made_by = 'inexact' end
  redis.call('HSET', job_key(id), 'made_by', made_by)
  return made_by ~= 'inexact'
end

local function take(id)
  local now = now_ms()
  local fence, _, end_, used = last(id)
  local job = read(id)
  fence = next_fence(job, fence)
  local attempts = redis.call('HINCRBY', job_key(id), 'attempts', 1)
  local name = redis.call('HGET', worker_key(worker_instance), 'name')
  redis.call('ZREM', queued_key(model), id)
  redis.call('HSET', job_key(id), 'status', 'in_progress', 'fence', fence, 'claim_token', claim_token,
    'worker_instance', worker_instance, 'worker', name, 'claim_end', end_,
    'resumable', redis.call('HGET', worker_key(worker_instance), 'continues') or '1')
  redis.call('HDEL', job_key(id), 'passed_ms')
  -- An earlier claim may have stored a result and lost the job before it ended it.
  redis.call('DEL', job_result_key(id))
  redis.call('HSETNX', job_key(id), 'started_ms', string.format('%.0f', now))
  redis.call('ZREM', DEADLINES, 'expires:' .. id)
  redis.call('HSET', worker_jobs_key(worker_instance), id, claim_token)
  local event = {type = 'started', worker = name}
  local exact = is_exact(id, end_)
  if attempts > 1 then event = {type = 'resumed', worker = name, attempt = attempts, exact = exact} end
  write(id, fence, 0, end_, used, cjson.encode(event), job.readers)
  publish()
  return found(id)
end

-- What to do with a queued job: 'take' | 'wait' | 'next' | 'stop' (no later job can be taken) | 'removed' (from queue).
local function judge(id)
  local job = redis.call('HMGET', job_key(id), 'status', 'deaths', 'passed_ms', 'revision', 'score', 'created_ms',
    'needs', 'paused_ms')
  if job[1] ~= 'queued' or (job[8] and job[8] ~= '') or not last(id) then
    redis.call('ZREM', queued_key(model), id)
    return 'removed'
  end
  -- It was started with another revision of the model, or uses fields that this worker does not support.
  if job[4] and job[4] ~= '' and job[4] ~= revision then return 'next' end
  if (tonumber(job[7]) or 0) > READS then return 'next' end
  if victim and tonumber(job[5]) >= NORMAL_FROM then return 'stop' end
  if (tonumber(job[2]) or 0) >= ALONE_FROM and #held > 0 then
    local now = now_ms()
    redis.call('HSETNX', job_key(id), 'passed_ms', string.format('%.0f', now))
    return job[3] and now - tonumber(job[3]) > PATIENCE_MS and 'wait' or 'next'
  end
  return has_room(job[5], job[6]) and 'take' or 'next'
end

-- Look at several windows, because jobs that this worker may not take must not hide the jobs behind them.
local num_passed = 0
for _ = 1, WINDOWS do
  local ids = redis.call('ZRANGE', queued_key(model), num_passed, num_passed + WINDOW - 1)
  for _, id in ipairs(ids) do
    local verdict = try(judge, id) or 'damaged'
    local taken = verdict == 'take' and try(take, id)
    if taken then return taken end
    if verdict == 'damaged' or verdict == 'take' then
      redis.call('ZREM', queued_key(model), id)
      set_aside(id)
    end
    if verdict == 'wait' then return {'wait'} end
    if verdict == 'stop' then return {'empty'} end
    if verdict == 'next' then num_passed = num_passed + 1 end
  end
  if #ids < WINDOW then break end
end
return {'empty'}
