-- Store the complete output of a job that its worker is about to end. ARGV: id, claim token, result as JSON.
-- Returns 'ok' or 'not yours'. A repeated call stores the same.
if redis.call('HGET', job_key(ARGV[1]), 'claim_token') ~= ARGV[2] then return 'not yours' end
redis.call('SET', job_result_key(ARGV[1]), ARGV[3])
return 'ok'
