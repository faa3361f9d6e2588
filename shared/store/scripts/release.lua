-- End a worker's lease and queue its jobs again. ARGV: worker instance, reason, died (1|0).
-- Returns the wake-ups to send: job, model, …
write_although_full()
local worker_instance = ARGV[1]
local held = try(redis.call, 'HGETALL', worker_jobs_key(worker_instance)) or {}
local wake_ups = {}

local function give_back_held(id, claim_token)
  local job = read(id)
  if job and is_readable(job) and job.claim_token == claim_token and give_back(id, job, ARGV[2], ARGV[3] == '1') then
    wake_ups[#wake_ups + 1] = id
    wake_ups[#wake_ups + 1] = job.model
  end
  return true
end

for i = 1, #held, 2 do
  if not try(give_back_held, held[i], held[i + 1]) then set_aside(held[i]) end
end
redis.call('DEL', worker_jobs_key(worker_instance), worker_key(worker_instance), worker_report_key(worker_instance))
redis.call('SREM', WORKERS, worker_instance)
publish()
return wake_ups
