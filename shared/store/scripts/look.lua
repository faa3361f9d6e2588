-- Read jobs. ARGV: 'result', 'whole' or 'brief', then ids.
-- Returns for each job its record, its long fields (request, view, metadata, resolved; with 'brief' only metadata), its
-- last event, and with 'result' its stored result or ''.
-- A script and not a transaction, because Redis refuses to queue a transaction's commands while its memory is full.
local found, is_brief, has_result = {}, ARGV[1] == 'brief', ARGV[1] == 'result'
for i, id in ipairs({unpack(ARGV, 2)}) do
  local bulk
  if is_brief then
    local metadata = try(redis.call, 'HGET', job_request_key(id), 'metadata')
    bulk = metadata and {'metadata', metadata} or {}
  else
    bulk = try(redis.call, 'HGETALL', job_request_key(id)) or {}
  end
  found[i] = {try(redis.call, 'HGETALL', job_key(id)) or {}, bulk,
    try(redis.call, 'XREVRANGE', events_key(id), '+', '-', 'COUNT', 1) or {},
    has_result and try(redis.call, 'GET', job_result_key(id)) or ''}
end
return found
