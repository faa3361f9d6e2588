-- Shared by all scripts; the key functions and constants above it are made by shared/keys.py.

local MAX_DEATHS = 3

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- The stream's last entry: fence, number and end positions; nil when the stream is gone.
local function last(id)
  local entries = redis.call('XREVRANGE', events_key(id), '+', '-', 'COUNT', 1)
  if #entries == 0 then return nil end
  local fence, number = string.match(entries[1][1], '(%d+)-(%d+)')
  local fields = entries[1][2]
  for i = 1, #fields, 2 do
    if fields[i] == 'end' then return tonumber(fence), tonumber(number), fields[i + 1] end
  end
end

-- What this call wrote, told to the relays in one message.
local outbox = {}

-- NOMKSTREAM: a stream that is gone stays gone, whoever still writes to it.
local function write(id, fence, number, end_, event)
  local stream_id = string.format('%d-%d', fence, number)
  redis.call('XADD', events_key(id), 'NOMKSTREAM', stream_id, 'end', end_, 'e', event)
  outbox[#outbox + 1] = string.format('["%s","%s","%s",%s]', id, stream_id, end_, event)
end

local function publish(source)
  if #outbox > 0 then
    redis.call('PUBLISH', channel_key(source), '[' .. table.concat(outbox, ',') .. ']')
  end
end

local function set_deadline(kind, id, due_ms)
  redis.call('ZADD', DEADLINES, string.format('%.0f', due_ms), kind .. ':' .. id)
end

-- Takes the job from whoever has it. What it released stays.
local function take_away(id, job)
  if job.incarnation ~= '' then redis.call('HDEL', worker_jobs_key(job.incarnation), id) end
  redis.call('HSET', job_key(id), 'holder', '', 'incarnation', '')
end

local function read(id)
  local names = {'status', 'holder', 'incarnation', 'fence', 'model', 'score', 'deaths', 'claim_end',
    'prompt_tokens', 'retention_ms', 'closed_by'}
  local values = redis.call('HMGET', job_key(id), unpack(names))
  if not values[1] then return nil end
  local job = {}
  for i, name in ipairs(names) do job[name] = values[i] or '' end
  return job
end

local function is_terminal(status) return status ~= 'queued' and status ~= 'in_progress' end

-- Writes a job's terminal event and record. Nothing is written to it afterwards.
local function close(id, job, status, reason, closed_by, fence, number, end_, event)
  local now = now_ms()
  write(id, fence, number, end_, event)
  take_away(id, job)
  redis.call('HSET', job_key(id), 'status', status, 'reason', reason, 'closed_by', closed_by,
    'fence', fence, 'completed_ms', string.format('%.0f', now))
  redis.call('ZREM', queued_key(job.model), id)
  redis.call('ZREM', ACTIVE, id)
  redis.call('ZREM', DEADLINES, 'expires:' .. id, 'cancel:' .. id, 'reader:' .. id)
  set_deadline('retention', id, now + tonumber(job.retention_ms))
end

local function prompt_tokens(job) return tonumber(job.prompt_tokens) or 0 end

local function failed_event(job, message, code, status)
  return cjson.encode({type = 'failed', prompt_tokens = prompt_tokens(job),
    error = {message = message, type = 'server_error', param = cjson.null, code = code, status = status}})
end

-- Puts a running job back into its queue, at its old place. A death without a token gained since the claim
-- counts against it; the third in a row ends it. Answers whether it waits again.
local function give_back(id, job, reason, died)
  local fence, _, end_ = last(id)
  if not fence then return false end
  local deaths = tonumber(job.deaths) or 0
  if died then deaths = (end_ == job.claim_end) and deaths + 1 or 0 end
  redis.call('HSET', job_key(id), 'deaths', deaths)
  fence = tonumber(job.fence) + 1
  if deaths >= MAX_DEATHS then
    local message = 'The workers that ran this job died ' .. deaths .. ' times without progress.'
    close(id, job, 'failed', '', '', fence, 0, end_, failed_event(job, message, 'worker_lost', 500))
    return false
  end
  take_away(id, job)
  redis.call('HSET', job_key(id), 'status', 'queued', 'fence', fence)
  redis.call('ZADD', queued_key(job.model), job.score, id)
  write(id, fence, 0, end_, cjson.encode({type = 'requeued', reason = reason}))
  return true
end
