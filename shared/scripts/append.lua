-- Write what became final in one step of a worker, for all of its jobs.
-- ARGV: source, then per job ten: id, holder, from, to, event or '' (a check), resolved request or '',
-- its model revision, prompt tokens, terminal status or '', terminal event.
-- Answers per job: {'end', positions} | {'closed', positions} | {'not yours'} | {'gone'}.
local WIDTH = 10

local function append(id, holder, from, to, event, resolved, revision, tokens, status, terminal)
  local job = read(id)
  if not job then return {'gone'} end
  if job.closed_by == holder then return {'closed', to} end
  if job.holder ~= holder then return {'not yours'} end
  local fence, number, end_ = last(id)
  if not fence then return {'gone'} end
  if end_ ~= from then return {'end', end_} end
  if resolved ~= '' and redis.call('HSETNX', asked_key(id), 'resolved', resolved) == 1 then
    redis.call('HSET', job_key(id), 'revision', revision, 'prompt_tokens', tokens)
  end
  if event ~= '' then
    number = number + 1
    write(id, fence, number, to, event)
  end
  if status ~= '' then
    close(id, job, status, '', holder, fence, number + 1, to, terminal)
    return {'closed', to}
  end
  return {'end', to}
end

local answers = {}
for i = 2, #ARGV, WIDTH do
  answers[#answers + 1] = append(unpack(ARGV, i, i + WIDTH - 1))
end
publish(ARGV[1])
return answers
