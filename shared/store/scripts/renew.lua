-- A reader is there: move the deadlines of jobs that want one. ARGV: grace in ms, then ids.
-- Never makes a deadline: a job without one, or over, needs no reader.
write_although_full()
local due = string.format('%.0f', now_ms() + tonumber(ARGV[1]))
for i = 2, #ARGV do redis.call('ZADD', DEADLINES, 'XX', due, 'reader:' .. ARGV[i]) end
return 'ok'
