-- End a replica's registration as a reader of jobs. ARGV: replica, then for each job its id and the number of the join.
-- A registration with a different number stays, so a late or repeated call changes nothing.
write_although_full()
for i = 2, #ARGV, 2 do try(leave, ARGV[i], ARGV[1], ARGV[i + 1]) end
publish()
return 'ok'
