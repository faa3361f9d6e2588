-- Register a replica as a reader of a job. A paused job is queued again.
-- ARGV: id, replica, the number of this join (which always increases), span of a priority class.
-- Returns {'unknown'} (the replica has no lease) | {'gone'} (no such job) | {'over'} (it has ended) | {'joined'} |
-- {'resumed', model} (it was paused: send a wake-up). A repeated call returns 'joined' and changes nothing. If the
-- reply 'resumed' is lost, the reaper sends the wake-up.
write_although_full()
local id, replica, seq, SPAN = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
-- A job keeps its queue position for this many pauses. A client that keeps reconnecting loses the position.
local FREE_PAUSES = 3
if redis.call('SISMEMBER', REPLICAS, replica) == 0 then return {'unknown'} end
local job = read(id)
if not job or not last(id) then return {'gone'} end
if is_terminal(job.status) then return {'over'} end
register_reader(id, job.readers, replica, seq)
redis.call('ZREM', DEADLINES, 'paused:' .. id)
if job.paused_ms == '' then return {'joined'} end
local score = tonumber(job.score)
if (tonumber(job.num_pauses) or 0) > FREE_PAUSES then
  score = math.floor(score / SPAN) * SPAN + next_accept_seq()
  redis.call('HSET', job_key(id), 'score', string.format('%.0f', score))
end
redis.call('HSET', job_key(id), 'paused_ms', '')
redis.call('ZADD', queued_key(job.model), string.format('%.0f', score), id)
return {'resumed', job.model}
