-- End a worker's lease and queue its jobs again. ARGV: worker instance, reason, died (1|0).
-- Returns the wake-ups to send: job, model, …
write_although_full()
local worker_instance = ARGV[1]
local held = redis.call('HGETALL', worker_jobs_key(worker_instance))
local wake_ups = {}
for i = 1, #held, 2 do
  local job = read(held[i])
  if job and is_readable(job) and job.claim_token == held[i + 1] and give_back(held[i], job, ARGV[2], ARGV[3] == '1') then
    wake_ups[#wake_ups + 1] = held[i]
    wake_ups[#wake_ups + 1] = job.model
  end
end
redis.call('DEL', worker_jobs_key(worker_instance), worker_key(worker_instance), worker_report_key(worker_instance))
redis.call('SREM', WORKERS, worker_instance)
publish()
return wake_ups
