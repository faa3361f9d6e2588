-- Give a worker the first job of its model's queue that it may take.
-- ARGV: model, incarnation, holder word, model revision.
-- Answers: job + its record + what was asked | 'empty' | 'wait' (a job must run alone first) | 'unknown' (no
-- living lease).
local model, incarnation, holder, revision = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local WINDOW, PATIENCE_MS, ALONE_FROM = 32, 5000, 2
if redis.call('SISMEMBER', WORKERS, incarnation) == 0 then return {'unknown'} end

local function found(id)
  return {'job', redis.call('HGETALL', job_key(id)), redis.call('HGETALL', asked_key(id))}
end

-- The reply of an earlier call with this word was lost: answer it again.
local held = redis.call('HGETALL', worker_jobs_key(incarnation))
for i = 1, #held, 2 do
  if held[i + 1] == holder then return found(held[i]) end
end

local function must_run_alone(id)
  local job = redis.call('HMGET', job_key(id), 'deaths', 'claim_end')
  if (tonumber(job[1]) or 0) < ALONE_FROM then return false end
  local _, _, end_ = last(id)
  return end_ == job[2]
end
for i = 1, #held, 2 do
  if must_run_alone(held[i]) then return {'wait'} end
end

-- Whether all that made the job's tokens so far would go on as this worker does. Remembers this worker.
local function is_exact(id, end_)
  local own = redis.call('HMGET', worker_key(incarnation), 'exact', 'fingerprint')
  local made_by = own[1] == '1' and own[2] or 'inexact'
  local before = redis.call('HGET', job_key(id), 'made_by')
  if before and before ~= made_by and string.find(end_, '[1-9]') then made_by = 'inexact' end
  redis.call('HSET', job_key(id), 'made_by', made_by)
  return made_by ~= 'inexact'
end

local function take(id)
  local now = now_ms()
  local fence, _, end_ = last(id)
  local job = read(id)
  fence = tonumber(job.fence) + 1
  local attempts = redis.call('HINCRBY', job_key(id), 'attempts', 1)
  local name = redis.call('HGET', worker_key(incarnation), 'name')
  redis.call('ZREM', queued_key(model), id)
  redis.call('HSET', job_key(id), 'status', 'in_progress', 'fence', fence, 'holder', holder,
    'incarnation', incarnation, 'worker', name, 'claim_end', end_)
  redis.call('HDEL', job_key(id), 'passed_ms')
  redis.call('HSETNX', job_key(id), 'started_ms', string.format('%.0f', now))
  redis.call('ZREM', DEADLINES, 'expires:' .. id)
  redis.call('HSET', worker_jobs_key(incarnation), id, holder)
  local event = {type = 'started', worker = name}
  local exact = is_exact(id, end_)
  if attempts > 1 then event = {type = 'resumed', worker = name, attempt = attempts, exact = exact} end
  write(id, fence, 0, end_, cjson.encode(event))
  publish(incarnation)
  return found(id)
end

for _, id in ipairs(redis.call('ZRANGE', queued_key(model), 0, WINDOW - 1)) do
  local job = redis.call('HMGET', job_key(id), 'status', 'deaths', 'passed_ms', 'revision')
  if job[1] ~= 'queued' or not last(id) then
    redis.call('ZREM', queued_key(model), id)
  elseif job[4] and job[4] ~= revision then
    -- resolved by another revision of the model: not this worker's
  elseif tonumber(job[2]) >= ALONE_FROM and #held > 0 then
    local now = now_ms()
    redis.call('HSETNX', job_key(id), 'passed_ms', string.format('%.0f', now))
    if job[3] and now - tonumber(job[3]) > PATIENCE_MS then return {'wait'} end
  else
    return take(id)
  end
end
return {'empty'}
