-- Queue a running job again, if it still has this claim token. ARGV: id, claim token, reason, died (1|0).
-- Returns 'requeued', 'failed' (its workers died too often) or 'not yours'.
write_although_full()
local id, claim_token = ARGV[1], ARGV[2]
local job = read(id)
if not job or claim_token == '' or job.claim_token ~= claim_token then return 'not yours' end
local waits = give_back(id, job, ARGV[3], ARGV[4] == '1')
publish()
return waits and 'requeued' or 'failed'
