"""The ledger's writes, as Lua that Redis runs atomically: a job's status, the listings and its batch's counters
change together or not at all.

Times are milliseconds since the epoch by Redis's own clock, so that all hosts agree on them.
"""

from __future__ import annotations

from warmline.jobs import keys

# How many of a listing's oldest entries are looked at when a job or batch is added to it: those that expired go.
SWEEP = 10

_SHARED = f"""
local JOB, REPORT, JOBS = '{keys.JOB}', '{keys.REPORT}', '{keys.JOBS}'
local BATCH, BATCH_JOBS, BATCHES = '{keys.BATCH}', '{keys.BATCH_JOBS}', '{keys.BATCHES}'

local function now_ms()
  local time = redis.call('TIME')
  return string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
end

local function sweep(listing, prefix)
  for _, id in ipairs(redis.call('ZRANGE', listing, 0, {SWEEP - 1})) do
    if redis.call('EXISTS', prefix .. id) == 0 then redis.call('ZREM', listing, id) end
  end
end

local function enter(id, job, created_ms, batch_id)
  redis.call('HSET', JOB .. id, 'job', job, 'status', 'queued', 'attempt', 0,
             'created_ms', created_ms, 'queued_ms', now_ms())
  redis.call('ZADD', JOBS .. 'queued', created_ms, id)
  if batch_id ~= '' then
    redis.call('HSET', JOB .. id, 'batch', batch_id)
    local place = redis.call('HINCRBY', BATCH .. batch_id, 'total', 1)
    redis.call('HINCRBY', BATCH .. batch_id, 'queued', 1)
    redis.call('ZADD', BATCH_JOBS .. batch_id, place, id)
  end
end

local function move(id, to)
  local was = redis.call('HMGET', JOB .. id, 'status', 'created_ms', 'batch')
  redis.call('HSET', JOB .. id, 'status', to)
  redis.call('ZREM', JOBS .. was[1], id)
  redis.call('ZADD', JOBS .. to, was[2], id)
  local batch_id = was[3]
  if not batch_id or redis.call('EXISTS', BATCH .. batch_id) == 0 then return nil end
  redis.call('HINCRBY', BATCH .. batch_id, was[1], -1)
  redis.call('HINCRBY', BATCH .. batch_id, to, 1)
  return batch_id
end

local function finish(id, to, retention_seconds)
  local batch_id = move(id, to)
  redis.call('HSET', JOB .. id, 'finished_ms', now_ms())
  redis.call('HDEL', JOB .. id, 'progress')
  redis.call('EXPIRE', JOB .. id, retention_seconds)
  sweep(JOBS .. to, JOB)
  if batch_id then
    local counts = redis.call('HMGET', BATCH .. batch_id, 'total', 'succeeded', 'failed')
    if (counts[2] or 0) + (counts[3] or 0) >= tonumber(counts[1]) then
      redis.call('HSET', BATCH .. batch_id, 'finished_ms', now_ms())
      redis.call('EXPIRE', BATCH .. batch_id, retention_seconds)
      redis.call('EXPIRE', BATCH_JOBS .. batch_id, retention_seconds)
    end
  end
end

local function unfinished(id)
  local status = redis.call('HGET', JOB .. id, 'status')
  return (status == 'queued' or status == 'running') and status
end
"""

# ARGV: batch id. A batch that is there already is left alone.
OPEN_BATCH = f"""{_SHARED}
if redis.call('EXISTS', BATCH .. ARGV[1]) == 1 then return 0 end
local now = now_ms()
redis.call('HSET', BATCH .. ARGV[1], 'created_ms', now, 'total', 0)
redis.call('ZADD', BATCHES, now, ARGV[1])
sweep(BATCHES, BATCH)
return 1
"""

# ARGV: job id, its JSON, creation time in ms, batch id or ''. 0: the job is there already, and left alone.
CREATE = f"""{_SHARED}
if redis.call('EXISTS', JOB .. ARGV[1]) == 1 then return 0 end
enter(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return 1
"""

# ARGV: job id, its JSON, creation time in ms, worker, most attempts, failure of a job past them, retention in s,
# then the fields to answer with. 0: it has finished already. -1: it is given up now.
CLAIM = f"""{_SHARED}
local id = ARGV[1]
if redis.call('EXISTS', JOB .. id) == 0 then enter(id, ARGV[2], ARGV[3], '') end
local status = unfinished(id)
if not status then return 0 end
if tonumber(redis.call('HGET', JOB .. id, 'attempt')) >= tonumber(ARGV[5]) then
  redis.call('HSET', JOB .. id, 'failure', ARGV[6])
  finish(id, 'failed', ARGV[7])
  return -1
end
redis.call('HINCRBY', JOB .. id, 'attempt', 1)
redis.call('HSET', JOB .. id, 'worker', ARGV[4], 'started_ms', now_ms())
redis.call('HDEL', JOB .. id, 'progress')
if status == 'queued' then move(id, 'running') end
return redis.call('HMGET', JOB .. id, unpack(ARGV, 8))
"""

# ARGV: job id, the progress's JSON.
PROGRESS = f"""{_SHARED}
if redis.call('HGET', JOB .. ARGV[1], 'status') ~= 'running' then return 0 end
redis.call('HSET', JOB .. ARGV[1], 'progress', ARGV[2])
return 1
"""

# ARGV: job id, the report's location, the report's JSON or '', retention in s. 0: the job is unknown or finished.
SUCCEED = f"""{_SHARED}
local id = ARGV[1]
if not unfinished(id) then return 0 end
redis.call('HSET', JOB .. id, 'report', ARGV[2])
if ARGV[3] ~= '' then redis.call('SET', REPORT .. id, ARGV[3], 'EX', ARGV[4]) end
finish(id, 'succeeded', ARGV[4])
return 1
"""

# ARGV: job id, the failure's JSON, retention in s. 0: the job is unknown or finished.
FAIL = f"""{_SHARED}
local id = ARGV[1]
if not unfinished(id) then return 0 end
redis.call('HSET', JOB .. id, 'failure', ARGV[2])
finish(id, 'failed', ARGV[3])
return 1
"""

# ARGV: job id. 0: the job is not running.
RETRY = f"""{_SHARED}
if redis.call('HGET', JOB .. ARGV[1], 'status') ~= 'running' then return 0 end
move(ARGV[1], 'queued')
redis.call('HDEL', JOB .. ARGV[1], 'progress', 'worker', 'started_ms')
return 1
"""
