-- End a lease: queue the incarnation's jobs again, then forget it. ARGV: incarnation, reason, died (1|0).
-- Answers the models to ring for: job, model, job, model, …
write_although_full()
local incarnation = ARGV[1]
local held = redis.call('HGETALL', worker_jobs_key(incarnation))
local bells = {}
for i = 1, #held, 2 do
  local job = read(held[i])
  if job and job.holder == held[i + 1] and give_back(held[i], job, ARGV[2], ARGV[3] == '1') then
    bells[#bells + 1] = held[i]
    bells[#bells + 1] = job.model
  end
end
redis.call('DEL', worker_jobs_key(incarnation), worker_key(incarnation), worker_report_key(incarnation))
redis.call('SREM', WORKERS, incarnation)
publish(STORE_SOURCE)
return bells
