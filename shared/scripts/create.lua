-- Accept a job: its record, its place in the queue, its `queued` event. Called again: changes nothing.
-- Answers when it was accepted, in ms.
-- ARGV: id, model, owner, class, end positions, deadlines as JSON {kind: ms from now}, retention ms, then
-- field and value pairs of the record.
local id, model, owner = ARGV[1], ARGV[2], ARGV[3]
local accepted_ms = redis.call('HGET', job_key(id), 'created_ms')
if accepted_ms then return accepted_ms end
local now = now_ms()
local score = string.format('%.0f', tonumber(ARGV[4]) * 1e13 + now)
redis.call('HSET', job_key(id), 'id', id, 'model', model, 'owner', owner, 'status', 'queued', 'holder', '',
  'incarnation', '', 'fence', 1, 'attempts', 0, 'deaths', 0, 'score', score, 'retention_ms', ARGV[7],
  'created_ms', string.format('%.0f', now))
for i = 8, #ARGV, 2 do redis.call('HSET', job_key(id), ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', queued_key(model), score, id)
redis.call('ZADD', ACTIVE, string.format('%.0f', now), id)
redis.call('ZADD', owner_jobs_key(owner), string.format('%.0f', now), id)
for kind, delay in pairs(cjson.decode(ARGV[6])) do set_deadline(kind, id, now + delay) end
-- The only write that may make the stream.
redis.call('XADD', events_key(id), '1-0', 'end', ARGV[5], 'e', '{"type":"queued"}')
return string.format('%.0f', now)
