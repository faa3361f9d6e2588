-- Take a running job from the holder that was seen, and queue it again. ARGV: id, holder, reason, died (1|0).
-- Answers 'requeued', 'failed' (it died too often) or 'not yours'.
write_although_full()
local id, holder = ARGV[1], ARGV[2]
local job = read(id)
if not job or holder == '' or job.holder ~= holder then return 'not yours' end
local waits = give_back(id, job, ARGV[3], ARGV[4] == '1')
publish(STORE_SOURCE)
return waits and 'requeued' or 'failed'
