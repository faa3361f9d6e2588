-- A worker's heartbeat. ARGV: worker instance, number of steps, number of wake-ups, statistics as JSON, report as JSON
-- or '', then job and claim token of each running job.
-- Returns {'unknown'} or {'ok' | 'drain', job, claim token, …} with the jobs that the store assigns to the worker and
-- that the worker did not name. 'drain' asks the worker to drain.
write_although_full()
local worker_instance = ARGV[1]
if redis.call('SISMEMBER', WORKERS, worker_instance) == 0 then return {'unknown'} end
redis.call('HINCRBY', worker_key(worker_instance), 'beat', 1)
redis.call('HSET', worker_key(worker_instance), 'steps', ARGV[2], 'wake_ups', ARGV[3], 'stats', ARGV[4])
if ARGV[5] ~= '' then redis.call('SET', worker_report_key(worker_instance), ARGV[5], 'EX', 10) end
local named = {}
for i = 6, #ARGV, 2 do named[ARGV[i]] = ARGV[i + 1] end
local answer = {redis.call('HGET', worker_key(worker_instance), 'drain') == '1' and 'drain' or 'ok'}
local held = redis.call('HGETALL', worker_jobs_key(worker_instance))
for i = 1, #held, 2 do
  if named[held[i]] ~= held[i + 1] then
    answer[#answer + 1] = held[i]
    answer[#answer + 1] = held[i + 1]
  end
end
return answer
