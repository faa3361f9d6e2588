-- Write the new output of a worker's jobs.
-- ARGV: seven for each job: id, claim token, from, to, used, event or '' (only check), and '' or a JSON object with
-- what is written only once for a job: {resolved, revision, status, terminal}, the last two at its end.
-- Returns a line for each job: 'end:<positions>' | 'closed:<positions>' | 'not yours' | 'gone'. It is one string,
-- because Redis 6 sends a nested reply in pieces, with a system call for each.
local WIDTH = 7

local function append(id, claim_token, from, to, used, event, rest)
  local seen = redis.call('HMGET', job_key(id), 'claim_token', 'closed_by', 'readers')
  if seen[1] ~= claim_token then
    if seen[2] == claim_token then return 'closed:' .. to end
    return seen[1] and 'not yours' or 'gone'
  end
  local fence, number, end_ = last(id)
  if not fence then return 'gone' end
  if end_ ~= from then return 'end:' .. end_ end
  rest = rest ~= '' and cjson.decode(rest) or {}
  if rest.resolved and redis.call('HSETNX', job_request_key(id), 'resolved', rest.resolved) == 1 then
    redis.call('HSET', job_key(id), 'revision', rest.revision)
  end
  if event ~= '' then
    number = number + 1
    write(id, fence, number, to, used, event, seen[3])
  end
  if rest.status then
    close(id, read(id), rest.status, '', claim_token, fence, number + 1, to, used, rest.terminal)
    return 'closed:' .. to
  end
  return 'end:' .. to
end

local answers = {}
for i = 1, #ARGV, WIDTH do
  answers[#answers + 1] = append(unpack(ARGV, i, i + WIDTH - 1))
end
publish()
return table.concat(answers, '\n')
