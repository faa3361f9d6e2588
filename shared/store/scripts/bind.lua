-- Let a request's key stand for a job that is there. ARGV: id, name and fingerprint of the key.
-- Answers 'new' | 'replay' (it did already) | 'conflict' (it stands for another request) | 'unknown' (no job).
local id = ARGV[1]
local held, fingerprint = recall(ARGV[2])
if held then return (held == id and fingerprint == ARGV[3]) and 'replay' or 'conflict' end
if redis.call('EXISTS', job_key(id)) == 0 then return 'unknown' end
remember(ARGV[2], ARGV[3], id)
return 'new'
