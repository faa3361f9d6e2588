-- Move jobs that have waited for long to the next higher class, at their number in the order of acceptance.
-- ARGV: span of a class, maximum number of jobs for each class, then for each class: model, first score, and the time
-- (µs) after which a job is promoted.
-- Returns the number of promoted jobs, then for each class the length of the model's queue.
write_although_full()
local span, limit, promoted = tonumber(ARGV[1]), ARGV[2], 0
local now = redis.call('TIME')
local now_us = tonumber(now[1]) * 1000000 + tonumber(now[2])

local function promote(queue, id, score)
  score = string.format('%.0f', tonumber(score) - span)
  if redis.call('EXISTS', job_key(id)) == 1 then
    redis.call('HSET', job_key(id), 'score', score)
    redis.call('ZADD', queue, score, id)
    promoted = promoted + 1
  else
    redis.call('ZREM', queue, id)
  end
  return true
end

for i = 3, #ARGV, 3 do
  local queue, first = queued_key(ARGV[i]), tonumber(ARGV[i + 1])
  local last = string.format('%.0f', first + now_us - tonumber(ARGV[i + 2]))
  local waiting = redis.call('ZRANGEBYSCORE', queue, ARGV[i + 1], last, 'WITHSCORES', 'LIMIT', 0, limit)
  for j = 1, #waiting, 2 do
    if not try(promote, queue, waiting[j], waiting[j + 1]) then redis.call('ZREM', queue, waiting[j]) end
  end
end
local answer = {promoted}
for i = 3, #ARGV, 3 do answer[#answer + 1] = redis.call('ZCARD', queued_key(ARGV[i])) end
return answer
