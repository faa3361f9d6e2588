-- A sign of life. ARGV: incarnation, steps made, bells held, statistics as JSON, report as JSON or '', then
-- job and holder word of each job that it runs. Answers 'unknown' or the jobs that the store believes to run
-- there and it did not name: {'ok' or, when it is to leave, 'drain', job, holder, …}.
write_although_full()
local incarnation = ARGV[1]
if redis.call('SISMEMBER', WORKERS, incarnation) == 0 then return {'unknown'} end
redis.call('HINCRBY', worker_key(incarnation), 'beat', 1)
redis.call('HSET', worker_key(incarnation), 'steps', ARGV[2], 'bells', ARGV[3], 'stats', ARGV[4])
if ARGV[5] ~= '' then redis.call('SET', worker_report_key(incarnation), ARGV[5], 'EX', 10) end
local named = {}
for i = 6, #ARGV, 2 do named[ARGV[i]] = ARGV[i + 1] end
local answer = {redis.call('HGET', worker_key(incarnation), 'drain') == '1' and 'drain' or 'ok'}
local held = redis.call('HGETALL', worker_jobs_key(incarnation))
for i = 1, #held, 2 do
  if named[held[i]] ~= held[i + 1] then
    answer[#answer + 1] = held[i]
    answer[#answer + 1] = held[i + 1]
  end
end
return answer
