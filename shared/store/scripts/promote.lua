-- Let jobs that have waited long go on in the next better class, at their place in the order of acceptance.
-- ARGV: span of a class, jobs of a call, then model, first score of a class, and how long (µs) it is borne, …
-- Answers how many were promoted, then for each of those queues how many wait in it now.
write_although_full()
local span, limit, promoted = tonumber(ARGV[1]), ARGV[2], 0
local now = redis.call('TIME')
local now_us = tonumber(now[1]) * 1000000 + tonumber(now[2])
for i = 3, #ARGV, 3 do
  local queue, first = queued_key(ARGV[i]), tonumber(ARGV[i + 1])
  local last = string.format('%.0f', first + now_us - tonumber(ARGV[i + 2]))
  local waiting = redis.call('ZRANGEBYSCORE', queue, ARGV[i + 1], last, 'WITHSCORES', 'LIMIT', 0, limit)
  for j = 1, #waiting, 2 do
    local key, score = job_key(waiting[j]), string.format('%.0f', tonumber(waiting[j + 1]) - span)
    if redis.call('EXISTS', key) == 1 then
      redis.call('ZADD', queue, score, waiting[j])
      redis.call('HSET', key, 'score', score)
      promoted = promoted + 1
    else
      redis.call('ZREM', queue, waiting[j])
    end
  end
end
local answer = {promoted}
for i = 3, #ARGV, 3 do answer[#answer + 1] = redis.call('ZCARD', queued_key(ARGV[i])) end
return answer
