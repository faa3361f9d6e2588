-- Jobs as they are at one moment. ARGV: 'result', 'whole' or 'brief', then ids.
-- Returns per job its record, of what may be long all (request, view, metadata, resolved) or the metadata alone
-- (brief), its last event, and (result) its stored result or ''.
-- Not a transaction: what is queued for one is refused while the memory is full.
local found, is_brief, has_result = {}, ARGV[1] == 'brief', ARGV[1] == 'result'
for i, id in ipairs({unpack(ARGV, 2)}) do
  local bulk
  if is_brief then
    local metadata = redis.call('HGET', job_request_key(id), 'metadata')
    bulk = metadata and {'metadata', metadata} or {}
  else
    bulk = redis.call('HGETALL', job_request_key(id))
  end
  found[i] = {redis.call('HGETALL', job_key(id)), bulk, redis.call('XREVRANGE', events_key(id), '+', '-', 'COUNT', 1),
    has_result and redis.call('GET', job_result_key(id)) or ''}
end
return found
