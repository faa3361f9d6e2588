-- Jobs as they are at one moment. ARGV: ids. Answers per job its record, what was asked and its last event.
-- Not a transaction: what is queued for one is refused while the memory is full.
local found = {}
for i, id in ipairs(ARGV) do
  found[i] = {redis.call('HGETALL', job_key(id)), redis.call('HGETALL', job_request_key(id)),
    redis.call('XREVRANGE', events_key(id), '+', '-', 'COUNT', 1)}
end
return found
