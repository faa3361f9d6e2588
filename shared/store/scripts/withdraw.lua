-- Ask what came of a `create` whose reply was lost. If it has not run, it never will: a mark in place of the job's
-- record makes a late one change nothing. ARGV: id, name and fingerprint of the request's key (or ''), lifetime of the
-- mark in ms.
-- Returns {'accepted', id, created_ms} | {'replay', id, created_ms} | {'conflict'}, as `create` does | {'withdrawn'}.
write_although_full()
local id, key = ARGV[1], ARGV[2]
local held, fingerprint = recall(key)
if held and fingerprint ~= ARGV[3] then return {'conflict'} end
if held and held ~= id then return {'replay', held, redis.call('HGET', job_key(held), 'created_ms')} end
local record = redis.call('HMGET', job_key(id), 'status', 'created_ms')
if record[1] then return {'accepted', id, record[2]} end
redis.call('HSET', job_key(id), 'created_ms', string.format('%.0f', now_ms()))
redis.call('PEXPIRE', job_key(id), ARGV[4])
return {'withdrawn'}
