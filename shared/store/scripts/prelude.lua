-- Shared by all scripts. shared/store/keys.py puts key functions and constants before it.

local MAX_DEATHS = 3
local MAX_REQUEST_KEYS = 16
local DEFAULT_GRACE_MS, DEFAULT_RETENTION_MS = 300000, 86400000
-- As in shared/store/throughput.py.
local THROUGHPUT_BUCKET_MS, THROUGHPUT_BUCKETS = 30000, 10

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- Let a script write although the memory is full. For scripts that keep, end or release what is stored.
-- Redis checks the memory only before a script's first write, and not if that is a deletion.
local function write_although_full() redis.call('DEL', NOTHING) end

-- Call f for one record, and return what it returns. Returns nil if the record is damaged: it must not keep a script
-- from the other records. Whatever Redis refuses (no memory, read-only) is raised as it was.
local function try(f, ...)
  local ok, result = pcall(f, ...)
  if ok then return result end
  local text = type(result) == 'table' and result.err or tostring(result)
  local word = string.match(text, '%-?(%u%u%u+) ')
  if word and word ~= 'ERR' and word ~= 'WRONGTYPE' then error(result, 0) end
  redis.log(redis.LOG_WARNING, 'baton: a damaged record: ' .. text)
  return nil
end

-- Returns fence, number, end positions and tokens used of the stream's last entry; nil if the stream is gone.
local function last(id)
  local entries = redis.call('XREVRANGE', events_key(id), '+', '-', 'COUNT', 1)
  if #entries == 0 then return nil end
  local fence, number = string.match(entries[1][1], '(%d+)-(%d+)')
  local fields, end_, used = entries[1][2], nil, ''
  for i = 1, #fields, 2 do
    if fields[i] == 'end' then end_ = fields[i + 1] elseif fields[i] == 'used' then used = fields[i + 1] end
  end
  if end_ then return tonumber(fence), tonumber(number), end_, used end
end

-- What this call wrote, by replica that reads it. Each replica gets one message on its own channel.
local outbox = {}

-- Append to a job's stream. NOMKSTREAM: a deleted stream is not created again. `readers`: the job's field of that name.
local function write(id, fence, number, end_, used, event, readers)
  local stream_id = string.format('%d-%d', fence, number)
  redis.call('XADD', events_key(id), 'NOMKSTREAM', stream_id, 'end', end_, 'used', used, 'e', event)
  if not readers or readers == '' then return end
  local message = string.format('["%s","%s","%s","%s",%s]', id, stream_id, end_, used, event)
  for replica in string.gmatch(readers, '(%S+):%d+') do
    local messages = outbox[replica] or {}
    outbox[replica] = messages
    messages[#messages + 1] = message
  end
end

local function publish()
  for replica, messages in pairs(outbox) do
    redis.call('PUBLISH', channel_key(replica), '[' .. table.concat(messages, ',') .. ']')
  end
end

-- Returns the next number in the order of acceptance: µs since the epoch, always greater than the last number.
local function next_accept_seq()
  local t = redis.call('TIME')
  local last_seq = tonumber(try(redis.call, 'GET', ACCEPT_SEQ) or 0) or 0
  local seq = math.max(tonumber(t[1]) * 1000000 + tonumber(t[2]), last_seq + 1)
  redis.call('SET', ACCEPT_SEQ, string.format('%.0f', seq))
  return seq
end

-- Returns the job that a request's key is bound to, and the request's fingerprint; nil if there is none.
local function recall(key)
  local value = key ~= '' and redis.call('GET', idempotency_key(key))
  if not value then return nil end
  local id, fingerprint = string.match(value, '(%S+) (%S+)')
  if redis.call('EXISTS', job_key(id)) == 0 then return nil end
  return id, fingerprint
end

-- Bind a request's key to a job. The job lists its keys, so that they are deleted with it.
local function remember(key, fingerprint, id)
  if key == '' or redis.call('HINCRBY', job_key(id), 'num_keys', 1) > MAX_REQUEST_KEYS then return end
  redis.call('SET', idempotency_key(key), id .. ' ' .. fingerprint)
  redis.call('HSET', job_key(id), 'keys', (redis.call('HGET', job_key(id), 'keys') or '') .. key .. ' ')
end

local function free_keys(id)
  for key in string.gmatch(redis.call('HGET', job_key(id), 'keys') or '', '%S+') do
    redis.call('DEL', idempotency_key(key))
  end
  redis.call('HDEL', job_key(id), 'keys')
end

-- Record how long a job ran, to estimate how long queued jobs will wait. Sums are kept for the last few time buckets.
local function count_finished(model, now, ran_ms)
  local key, bucket = throughput_key(model), math.floor(now / THROUGHPUT_BUCKET_MS)
  if redis.call('HINCRBY', key, bucket .. ':n', 1) == 1 then
    for _, field in ipairs(redis.call('HKEYS', key)) do
      if tonumber(string.match(field, '%d+')) <= bucket - THROUGHPUT_BUCKETS then redis.call('HDEL', key, field) end
    end
  end
  redis.call('HINCRBY', key, bucket .. ':ms', string.format('%.0f', ran_ms))
  redis.call('PEXPIRE', key, THROUGHPUT_BUCKET_MS * THROUGHPUT_BUCKETS)
end

-- Returns the bytes that a job's keys take.
local function stored_bytes(id)
  local sum = 0
  for _, key in ipairs({job_key(id), job_request_key(id), job_result_key(id), events_key(id)}) do
    -- `pcall`: a user of Redis may lack the right to ask.
    local size = redis.pcall('MEMORY', 'USAGE', key)
    if type(size) == 'number' then sum = sum + size end
  end
  return sum
end

-- Count to its owner, and in all, that a job takes this many bytes now. The job says how many were counted for it.
local function count_bytes(id, owner, bytes)
  local delta = string.format('%.0f', bytes - (tonumber(redis.call('HGET', job_key(id), 'bytes')) or 0))
  redis.call('HSET', job_key(id), 'bytes', string.format('%.0f', bytes))
  if redis.call('HINCRBY', BYTES, owner, delta) <= 0 then redis.call('HDEL', BYTES, owner) end
  if redis.call('INCRBY', ALL_BYTES, delta) <= 0 then redis.call('DEL', ALL_BYTES) end
end

local function set_deadline(kind, id, due_ms)
  redis.call('ZADD', DEADLINES, string.format('%.0f', due_ms), kind .. ':' .. id)
end

-- Take a job away from its worker. Its released output stays.
local function take_away(id, job)
  if job.worker_instance ~= '' then redis.call('HDEL', worker_jobs_key(job.worker_instance), id) end
  redis.call('HSET', job_key(id), 'claim_token', '', 'worker_instance', '')
end

-- Returns the fields of a job that scripts need for their decisions; nil if there is no such job.
local function read(id)
  local names = {'status', 'claim_token', 'worker_instance', 'fence', 'model', 'score', 'deaths', 'claim_end',
    'retention_ms', 'closed_by', 'started_ms', 'owner', 'revision',
    'needs', 'readers', 'on_disconnect', 'paused_ms', 'num_pauses', 'resumable', 'grace_ms'}
  local values = redis.call('HMGET', job_key(id), unpack(names))
  if not values[1] then return nil end
  local job = {}
  for i, name in ipairs(names) do job[name] = values[i] or '' end
  return job
end

-- True also for an unknown status of a newer version, because such a job must not be changed here.
local function is_terminal(status) return status ~= 'queued' and status ~= 'in_progress' end

-- Whether the record has the fields that scripts compute with. A newer version may store it in another form.
local function is_readable(job)
  return job.model ~= '' and tonumber(job.fence) and tonumber(job.score) and tonumber(job.retention_ms)
end

-- The fence of the next change of hands. The stream may be ahead of the record if something else wrote to it.
local function next_fence(job, fence) return math.max(tonumber(job.fence), fence) + 1 end

-- Write a job's terminal event and record. Nothing is written to the job afterwards.
local function close(id, job, status, reason, closed_by, fence, number, end_, used, event)
  local now = now_ms()
  write(id, fence, number, end_, used, event, job.readers)
  take_away(id, job)
  for replica in string.gmatch(job.readers, '(%S+):%d+') do redis.call('HDEL', replica_jobs_key(replica), id) end
  redis.call('HSET', job_key(id), 'status', status, 'reason', reason, 'closed_by', closed_by,
    'fence', fence, 'readers', '', 'paused_ms', '', 'completed_ms', string.format('%.0f', now))
  redis.call('ZREM', queued_key(job.model), id)
  redis.call('ZREM', ACTIVE, id)
  if (try(redis.call, 'HINCRBY', OPEN, job.owner, -1) or 1) <= 0 then redis.call('HDEL', OPEN, job.owner) end
  redis.call('ZREM', DEADLINES, 'expires:' .. id, 'cancel:' .. id, 'paused:' .. id)
  -- A claim stored this result but did not write the end, so it may have more output than was released.
  if closed_by == '' then redis.call('DEL', job_result_key(id)) end
  set_deadline('retention', id, now + tonumber(job.retention_ms))
  try(redis.call, 'HDEL', job_request_key(id), 'resolved')
  -- The request is kept for a retry, unless it is itself at fault.
  local failure = status == 'failed' and cjson.decode(event).error
  if failure and (tonumber(failure.status) or 500) < 500 then try(redis.call, 'HDEL', job_request_key(id), 'request') end
  try(count_bytes, id, job.owner, stored_bytes(id))
  if job.status == 'in_progress' then try(count_finished, job.model, now, now - (tonumber(job.started_ms) or now)) end
end

local function failed_event(message, code, status)
  return cjson.encode({type = 'failed', error = {message = message, type = 'server_error', param = cjson.null, code = code, status = status}})
end

-- End a job whose record or stream is damaged, as far as that is possible. It is not active afterwards.
local function set_aside(id)
  local job = try(read, id)
  if job and not is_terminal(job.status) then
    job.fence, job.retention_ms = tonumber(job.fence) or 0, tonumber(job.retention_ms) or DEFAULT_RETENTION_MS
    local is_closed = try(function()
      local fence, _, end_, used = last(id)
      if not fence then return false end
      close(id, job, 'failed', '', '', next_fence(job, fence), 0, end_, used,
        failed_event('The stored data of this job is damaged.', 'unreadable_job', 500))
      return true
    end)
    if not is_closed then
      try(redis.call, 'ZREM', queued_key(job.model), id)
      if (try(redis.call, 'HINCRBY', OPEN, job.owner, -1) or 1) <= 0 then redis.call('HDEL', OPEN, job.owner) end
      try(redis.call, 'HSET', job_key(id), 'status', 'failed', 'claim_token', '')
      try(set_deadline, 'retention', id, now_ms() + job.retention_ms)
    end
  end
  try(redis.call, 'ZREM', ACTIVE, id)
end

-- Whether a job has released anything.
local function has_output(id)
  local _, _, end_ = last(id)
  return end_ and string.find(end_, '[1-9]')
end

-- Pause a job without readers. It leaves its worker or its queue until a reader returns. Its status is `queued`.
-- A job that its backend cannot continue goes on running; only its deadline is set.
local function pause(id, job)
  local now = now_ms()
  set_deadline('paused', id, now + (tonumber(job.grace_ms) or DEFAULT_GRACE_MS))
  if job.status == 'in_progress' then
    local fence, _, end_, used = last(id)
    if not fence or (job.resumable == '0' and has_output(id)) then return end
    fence = next_fence(job, fence)
    take_away(id, job)
    redis.call('HSET', job_key(id), 'status', 'queued', 'fence', fence)
    write(id, fence, 0, end_, used, '{"type":"requeued","reason":"paused"}', '')
  else
    redis.call('ZREM', queued_key(job.model), id)
  end
  redis.call('HSET', job_key(id), 'paused_ms', string.format('%.0f', now))
  redis.call('HINCRBY', job_key(id), 'num_pauses', 1)
end

-- End a replica's registration as a reader of a job, and pause or cancel the job if it was the last reader.
local function leave(id, replica, seq)
  local job = read(id)
  if not job then
    redis.call('HDEL', replica_jobs_key(replica), id)
    return
  end
  local entry, rest = replica .. ':' .. seq, {}
  local is_registered = false
  for reader in string.gmatch(job.readers, '%S+') do
    if reader == entry then is_registered = true else rest[#rest + 1] = reader end
  end
  -- A late or repeated call: the replica has joined again, or has left already.
  if not is_registered then return end
  job.readers = table.concat(rest, ' ')
  redis.call('HSET', job_key(id), 'readers', job.readers)
  redis.call('HDEL', replica_jobs_key(replica), id)
  if #rest > 0 or is_terminal(job.status) or job.on_disconnect == 'continue' then return end
  if job.on_disconnect == 'abort' then
    local fence, _, end_, used = last(id)
    if end_ then
      close(id, job, 'cancelled', 'reader_gone', '', next_fence(job, fence), 0, end_, used,
        '{"type":"cancelled","reason":"reader_gone"}')
    end
  elseif job.paused_ms == '' then
    pause(id, job)
  end
end

-- Register a replica as a reader of a job that has not ended. It replaces an older registration of the replica.
local function register_reader(id, readers, replica, seq)
  local entries = {replica .. ':' .. seq}
  for reader in string.gmatch(readers, '%S+') do
    if string.match(reader, '(%S+):%d+') ~= replica then entries[#entries + 1] = reader end
  end
  redis.call('HSET', job_key(id), 'readers', table.concat(entries, ' '))
  redis.call('HSET', replica_jobs_key(replica), id, seq)
end

-- Queue a running job again, at its old position. If its worker died before the job gained a token since the claim,
-- the death counts; after MAX_DEATHS in a row the job fails. Returns whether the job was queued.
local function give_back(id, job, reason, died)
  local fence, _, end_, used = last(id)
  if not fence then return false end
  local deaths = tonumber(job.deaths) or 0
  if died then deaths = (end_ == job.claim_end) and deaths + 1 or 0 end
  redis.call('HSET', job_key(id), 'deaths', deaths)
  fence = next_fence(job, fence)
  if deaths >= MAX_DEATHS then
    local message = 'The workers that ran this job died ' .. deaths .. ' times without progress.'
    close(id, job, 'failed', '', '', fence, 0, end_, used, failed_event(message, 'worker_lost', 500))
    return false
  end
  take_away(id, job)
  redis.call('HSET', job_key(id), 'status', 'queued', 'fence', fence)
  redis.call('ZADD', queued_key(job.model), job.score, id)
  write(id, fence, 0, end_, used, cjson.encode({type = 'requeued', reason = reason}), job.readers)
  return true
end
