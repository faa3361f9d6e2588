-- Accept a job: write its record, its queue entry and its `queued` event. A repeated call changes nothing.
-- ARGV: id, model, owner, first score of its class, end positions, deadlines as JSON {kind: ms from now},
-- retention ms, name and fingerprint of the request's key (or ''), maximum number of open jobs of the owner, maximum
-- bytes of the owner's jobs and of all jobs, request, view and metadata (which may be long), the replica that reads the job and the number of its join (or ''), then field
-- and value pairs of the record.
-- Returns {'accepted', id, created_ms} | {'replay', id, created_ms} (the job that an earlier request with this key
-- created) | {'conflict'} | {'full', 'jobs' | 'owner' | 'all'} (which limit is reached).
local id, model, owner, key = ARGV[1], ARGV[2], ARGV[3], ARGV[8]
local held, fingerprint = recall(key)
if held and fingerprint ~= ARGV[9] then return {'conflict'} end
if held and held ~= id then return {'replay', held, redis.call('HGET', job_key(held), 'created_ms')} end
local accepted_ms = redis.call('HGET', job_key(id), 'created_ms')
if accepted_ms then return {'accepted', id, accepted_ms} end
if (tonumber(redis.call('HGET', OPEN, owner)) or 0) >= tonumber(ARGV[10]) then return {'full', 'jobs'} end
local added = #ARGV[13] + #ARGV[14] + #ARGV[15]
if (tonumber(redis.call('HGET', BYTES, owner)) or 0) + added > tonumber(ARGV[11]) then return {'full', 'owner'} end
if (tonumber(redis.call('GET', ALL_BYTES)) or 0) + added > tonumber(ARGV[12]) then return {'full', 'all'} end
redis.call('HINCRBY', OPEN, owner, 1)
local accept_seq = next_accept_seq()
local now = string.format('%.0f', now_ms())
redis.call('HSET', job_key(id), 'id', id, 'model', model, 'owner', owner, 'status', 'queued', 'claim_token', '',
  'worker_instance', '', 'fence', 1, 'attempts', 0, 'deaths', 0,
  'score', string.format('%.0f', accept_seq + tonumber(ARGV[4])), 'retention_ms', ARGV[7], 'created_ms', now)
for i = 18, #ARGV, 2 do redis.call('HSET', job_key(id), ARGV[i], ARGV[i + 1]) end
redis.call('HSET', job_request_key(id), 'request', ARGV[13], 'view', ARGV[14], 'metadata', ARGV[15])
redis.call('ZADD', queued_key(model), redis.call('HGET', job_key(id), 'score'), id)
accept_seq = string.format('%.0f', accept_seq)
redis.call('ZADD', ACTIVE, accept_seq, id)
redis.call('ZADD', owner_jobs_key(owner), accept_seq, id)
for kind, delay in pairs(cjson.decode(ARGV[6])) do set_deadline(kind, id, tonumber(now) + delay) end
remember(key, ARGV[9], id)
if ARGV[16] ~= '' and redis.call('SISMEMBER', REPLICAS, ARGV[16]) == 1 then
  redis.call('ZREM', DEADLINES, 'paused:' .. id)
  register_reader(id, '', ARGV[16], ARGV[17])
end
-- Only this write may create the stream.
redis.call('XADD', events_key(id), '1-0', 'end', ARGV[5], 'used', '', 'e', '{"type":"queued"}')
count_bytes(id, owner, stored_bytes(id))
return {'accepted', id, now}
