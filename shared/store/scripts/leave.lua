-- A replica no longer reads some jobs. ARGV: replica, then job and number of its join, …
-- Only the registration of that very join ends: a leave that is late, or comes twice, changes nothing.
write_although_full()
for i = 2, #ARGV, 2 do leave(ARGV[i], ARGV[1], ARGV[i + 1]) end
publish()
return 'ok'
