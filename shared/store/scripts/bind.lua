-- Bind a request's key to an existing job. ARGV: id, name and fingerprint of the key.
-- Returns 'new' | 'replay' (was already bound to it) | 'conflict' (belongs to another request) | 'unknown' (no job).
local id = ARGV[1]
local held, fingerprint = recall(ARGV[2])
if held then return (held == id and fingerprint == ARGV[3]) and 'replay' or 'conflict' end
if redis.call('EXISTS', job_key(id)) == 0 then return 'unknown' end
remember(ARGV[2], ARGV[3], id)
return 'new'
