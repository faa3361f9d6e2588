-- A sign of life. ARGV: worker instance, steps made, wake-ups held, statistics as JSON, report as JSON or '', then
-- job and claim token of each job that it runs. Answers 'unknown' or the jobs that the store believes to run
-- there and it did not name: {'ok' or, when it is to leave, 'drain', job, claim token, …}.
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
