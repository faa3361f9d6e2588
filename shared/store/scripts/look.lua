-- Read jobs. ARGV: 'result', 'whole' or 'brief', then ids.
-- Returns for each job its record, its long fields ('brief': metadata; 'result': metadata and view; 'whole': all, which
-- may be megabytes), its last event, and with 'result' its stored result or ''.
-- A script and not a transaction, because Redis refuses to queue a transaction's commands while its memory is full.
local FIELDS = {brief = {'metadata'}, result = {'metadata', 'view'}}
local found, names, has_result = {}, FIELDS[ARGV[1]], ARGV[1] == 'result'
for i, id in ipairs({unpack(ARGV, 2)}) do
  local bulk = {}
  if names then
    for n, value in ipairs(try(redis.call, 'HMGET', job_request_key(id), unpack(names)) or {}) do
      if value then
        bulk[#bulk + 1] = names[n]
        bulk[#bulk + 1] = value
      end
    end
  else
    bulk = try(redis.call, 'HGETALL', job_request_key(id)) or {}
  end
  found[i] = {try(redis.call, 'HGETALL', job_key(id)) or {}, bulk,
    try(redis.call, 'XREVRANGE', events_key(id), '+', '-', 'COUNT', 1) or {},
    has_result and try(redis.call, 'GET', job_result_key(id)) or ''}
end
return found
