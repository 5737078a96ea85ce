"""The ledger's writes, as Lua that Redis runs atomically: a job's status, its history, the listings and its
batch's counters change together or not at all.

Times are milliseconds since the epoch by Redis's own clock, so that all hosts agree on them. A write of a worker
names its attempt: one that is not the job's last any more changes nothing.
"""

from __future__ import annotations

from warmline.jobs import keys

# How many of a listing's oldest entries are looked at when a job or batch is added to it: those that expired go.
SWEEP = 10
# How many of the jobs that ended last are known in the order of their ends. The list is cut at twice that length.
KEPT_ENDED = 50

SHARED = f"""
local JOB, REPORT, JOBS = '{keys.JOB}', '{keys.REPORT}', '{keys.JOBS}'
local BATCH, CALLS, BATCHES = '{keys.BATCH}', '{keys.CALLS}', '{keys.BATCHES}'
local REQUEST = '{keys.REQUEST}'
local WAITING, TURN, QUEUE = '{keys.WAITING}', '{keys.TURN}', '{keys.QUEUE}'
local SINGLES, SINGLES_LINE = '{keys.SINGLES}', '{keys.SINGLES_LINE}'
local SENT, DELAYED, LEASES, HOLDERS = '{keys.SENT}', '{keys.DELAYED}', '{keys.LEASES}', '{keys.HOLDERS}'
local HELD = '{keys.HELD}'
local LISTENED, ENDINGS = '{keys.LISTENED}', '{keys.ENDINGS}'
local COUNTS = '{keys.COUNTS}'

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function whole(number) return string.format('%.0f', number) end

local function ring() redis.call('PUBLISH', '{keys.BELL}', '') end

-- Where jobs wait and the queue is so short that the feeder would fill it up.
local function ring_where_low()
  local waits = redis.call('HGETALL', WAITING)
  for at = 1, #waits, 2 do
    if tonumber(waits[at + 1]) > 0 then
      local low = redis.call('HGET', '{keys.LOW}', waits[at])
      if not low or redis.call('LLEN', QUEUE .. waits[at]) <= tonumber(low) then return ring() end
    end
  end
end

local function sweep(listing, prefix)
  for _, id in ipairs(redis.call('ZRANGE', listing, 0, {SWEEP - 1})) do
    if redis.call('EXISTS', prefix .. id) == 0 then redis.call('ZREM', listing, id) end
  end
end

local function waiting()
  local total = redis.call('ZCARD', HELD)
  for _, count in ipairs(redis.call('HVALS', WAITING)) do total = total + count end
  return total
end

local function batch_of(id)
  local batch_id = redis.call('HGET', JOB .. id, 'batch')
  return batch_id and redis.call('EXISTS', BATCH .. batch_id) == 1 and batch_id
end

-- A job gets a hash of its own. `place` is its place in the batch, from 0, or -1: a batch has counted it already.
local function enter(id, job, created_ms, batch_id, place)
  place = tonumber(place)
  redis.call('HSET', JOB .. id, 'job', job, 'status', 'queued', 'attempt', 0,
             'created_ms', created_ms, 'queued_ms', place < 0 and whole(now_ms()) or created_ms)
  redis.call('ZADD', JOBS .. 'queued', created_ms, id)
  if place < 0 then return end
  local batch = redis.call('HMGET', BATCH .. batch_id, 'total', 'cursor', 'cancelled_ms')
  if not batch[1] or place >= tonumber(batch[1]) or batch[3] then return end
  redis.call('HSET', JOB .. id, 'batch', batch_id)
  if place >= tonumber(batch[2]) then redis.call('HINCRBY', BATCH .. batch_id, 'ahead', 1) end
end

local function move(id, to)
  local was = redis.call('HMGET', JOB .. id, 'status', 'created_ms')
  redis.call('HSET', JOB .. id, 'status', to)
  redis.call('ZREM', JOBS .. was[1], id)
  redis.call('ZADD', JOBS .. to, was[2], id)
  local batch_id = batch_of(id)
  if batch_id then
    redis.call('HINCRBY', BATCH .. batch_id, was[1], -1)
    redis.call('HINCRBY', BATCH .. batch_id, to, 1)
  end
  return batch_id
end

-- Written with the ending itself, so that whoever is to be told of it finds it, whatever dies next. Where nobody
-- is to be told, it is one look. Of too many that wait the oldest goes, and is counted.
local function tell(event, id, more)
  local most = redis.call('HGET', LISTENED, event)
  if not most then return end
  if redis.call('XLEN', ENDINGS) >= tonumber(most) then
    redis.call('INCRBY', '{keys.DROPPED}', redis.call('XTRIM', ENDINGS, 'MAXLEN', '=', whole(most - 1)))
  end
  redis.call('XADD', ENDINGS, '*', 'event', event, 'id', id, 'more', more and more() or '')
end

local function end_batch_if_done(batch_id, retention)
  local counts = redis.call('HMGET', BATCH .. batch_id, 'total', 'succeeded', 'failed', 'cancelled', 'dead')
  local ended = 0
  for place = 2, 5 do
    counts[place] = counts[place] or 0
    ended = ended + counts[place]
  end
  if ended < tonumber(counts[1]) then return end
  redis.call('HSET', BATCH .. batch_id, 'finished_ms', whole(now_ms()))
  redis.call('EXPIRE', BATCH .. batch_id, retention)
  redis.call('EXPIRE', CALLS .. batch_id, retention)
  tell('batch.finished', batch_id, function() return table.concat(counts, ' ') end)
end

local function finish(id, to, retention)
  local batch_id = move(id, to)
  redis.call('HINCRBY', COUNTS, 'job:' .. to, 1)
  redis.call('HSET', JOB .. id, 'finished_ms', whole(now_ms()))
  redis.call('HDEL', JOB .. id, 'progress', 'retry_at_ms', 'cancel')
  redis.call('ZREM', SENT, id)
  redis.call('ZREM', DELAYED, id)
  redis.call('EXPIRE', JOB .. id, retention)
  sweep(JOBS .. to, JOB)
  if redis.call('LPUSH', '{keys.ENDED}' .. to, id) > {2 * KEPT_ENDED} then
    redis.call('LTRIM', '{keys.ENDED}' .. to, 0, {KEPT_ENDED - 1})
  end
  local has_failure = to == 'failed' or to == 'dead'
  tell('job.' .. to, id, has_failure and function() return redis.call('HGET', JOB .. id, 'failure') or '' end)
  if batch_id then end_batch_if_done(batch_id, retention) end
end

-- The attempt is over: into the history with it, and its lease goes.
local function end_attempt(id, outcome, failure)
  local was = redis.call('HMGET', JOB .. id, 'attempt', 'worker', 'started_ms', 'attempts')
  local worker, started = was[2] or '', was[3] or whole(now_ms())
  local entry = string.format(
    '{{"number":%s,"worker":%s,"started_ms":%s,"ended_ms":%s,"outcome":"%s","failure":%s}}\\n',
    was[1], cjson.encode(worker), started, whole(now_ms()), outcome, failure ~= '' and failure or 'null')
  redis.call('HSET', JOB .. id, 'attempts', (was[4] or '') .. entry)
  redis.call('HINCRBY', COUNTS, 'attempt:' .. outcome, 1)
  redis.call('ZREM', LEASES, id)
  if redis.call('HGET', HOLDERS, worker) == id then redis.call('HDEL', HOLDERS, worker) end
end

local function wait(id, due_ms, retention)
  if redis.call('HGET', JOB .. id, 'cancel') then return finish(id, 'cancelled', retention) end
  move(id, 'queued')
  redis.call('HDEL', JOB .. id, 'progress', 'worker', 'started_ms')
  redis.call('HSET', JOB .. id, 'retry_at_ms', whole(due_ms))
  redis.call('ZADD', DELAYED, whole(due_ms), id)
  ring()
end

-- Whoever ran the job is gone. 'dead' at the last loss that is allowed, else it waits for its next attempt.
local function lose(id, most, failure, dead_retention, retention)
  end_attempt(id, 'lost', failure)
  if redis.call('HINCRBY', JOB .. id, 'losses', 1) >= tonumber(most) then
    redis.call('HSET', JOB .. id, 'failure', failure)
    finish(id, 'dead', dead_retention)
    return 'dead'
  end
  wait(id, now_ms(), retention)
  return 'queued'
end

-- As if it had never been, or to be entered anew.
local function forget(id)
  redis.call('ZREM', JOBS .. redis.call('HGET', JOB .. id, 'status'), id)
  redis.call('DEL', JOB .. id, REPORT .. id)
end

local function is_over(status) return status ~= 'queued' and status ~= 'running' end

-- Whether the attempt is the job's last and has not ended: else what it has to say is of no interest.
local function is_last(id, attempt)
  local was = redis.call('HMGET', JOB .. id, 'status', 'attempt')
  return was[1] and not is_over(was[1]) and was[2] == attempt
end

local function stand_in_line(id, lane)
  if redis.call('RPUSH', SINGLES .. lane, id) == 1 then redis.call('RPUSH', TURN .. lane, SINGLES_LINE) end
  redis.call('HINCRBY', WAITING, lane, 1)
  ring()
end

-- It gets into its line when it is due, for which the feeder looks by itself. Until then it can be cancelled and
-- looked at as one that stands there.
local function hold_back(id, lane, due_ms)
  redis.call('ZADD', HELD, whole(due_ms), lane .. ':' .. id)
  redis.call('HSET', JOB .. id, 'retry_at_ms', whole(due_ms))
end

-- It waits there no more, if it did.
local function leave_line(id, lane)
  if redis.call('ZREM', HELD, lane .. ':' .. id) == 1 then return end
  if redis.call('LREM', SINGLES .. lane, 1, id) == 0 then return end
  redis.call('HINCRBY', WAITING, lane, -1)
  if redis.call('EXISTS', SINGLES .. lane) == 0 then redis.call('LREM', TURN .. lane, 0, SINGLES_LINE) end
end
"""

# ARGV: job id, its JSON, creation time in ms, lane, most jobs that may wait; of a request that is to be done once
# its name, else '', what is remembered of it, for how long in s.
# 0: the job is there already, and left alone. -1: too many wait. A string: what is remembered of the request.
CREATE = f"""{SHARED}
local known = ARGV[6] ~= '' and redis.call('GET', REQUEST .. ARGV[6])
if known then return known end
if redis.call('EXISTS', JOB .. ARGV[1]) == 1 then return 0 end
if waiting() >= tonumber(ARGV[5]) then return -1 end
enter(ARGV[1], ARGV[2], ARGV[3], '', -1)
stand_in_line(ARGV[1], ARGV[4])
if ARGV[6] ~= '' then redis.call('SET', REQUEST .. ARGV[6], ARGV[7], 'EX', ARGV[8]) end
return 1
"""

# ARGV: job id, its JSON, creation time in ms, its batch or '', its place there or -1, worker, lease in ms, then
# the fields to answer with. 'ended', or ['leased', by whom]: whether that one lives is for the sweeper to say.
CLAIM = f"""{SHARED}
local id, worker = ARGV[1], ARGV[6]
ring_where_low()  -- whatever becomes of this message, there may be room for others
if redis.call('EXISTS', JOB .. id) == 0 then enter(id, ARGV[2], ARGV[3], ARGV[4], ARGV[5]) end
local status = redis.call('HGET', JOB .. id, 'status')
if is_over(status) then return 'ended' end
if status == 'running' then
  local holder = redis.call('HGET', JOB .. id, 'worker')
  -- It asks again because our answer did not reach it.
  if holder == worker then return redis.call('HMGET', JOB .. id, unpack(ARGV, 8)) end
  return {{'leased', holder}}
end
redis.call('HINCRBY', JOB .. id, 'attempt', 1)
redis.call('HSET', JOB .. id, 'worker', worker, 'started_ms', whole(now_ms()))
redis.call('HDEL', JOB .. id, 'progress', 'retry_at_ms')
redis.call('ZREM', SENT, id)
redis.call('ZREM', DELAYED, id)
redis.call('ZADD', LEASES, whole(now_ms() + ARGV[7]), id)
redis.call('HSET', HOLDERS, worker, id)
move(id, 'running')
return redis.call('HMGET', JOB .. id, unpack(ARGV, 8))
"""

# ARGV: job id, attempt, lease in ms, the progress's JSON or ''. 'held', 'cancel' or 'lost'.
HEARTBEAT = f"""{SHARED}
local id = ARGV[1]
local was = redis.call('HMGET', JOB .. id, 'status', 'attempt', 'cancel')
if was[1] ~= 'running' or was[2] ~= ARGV[2] then return 'lost' end
redis.call('ZADD', LEASES, whole(now_ms() + ARGV[3]), id)
if ARGV[4] ~= '' then redis.call('HSET', JOB .. id, 'progress', ARGV[4]) end
return was[3] and 'cancel' or 'held'
"""

# ARGV: job id, attempt, the report's location, the report's JSON or '', retention in s.
# 0: not its attempt any more.
SUCCEED = f"""{SHARED}
local id = ARGV[1]
if not is_last(id, ARGV[2]) then return 0 end
if redis.call('HGET', JOB .. id, 'status') == 'running' then end_attempt(id, 'succeeded', '') end
redis.call('HSET', JOB .. id, 'report', ARGV[3])
if ARGV[4] ~= '' then redis.call('SET', REPORT .. id, ARGV[4], 'EX', ARGV[5]) end
finish(id, 'succeeded', ARGV[5])
return 1
"""

# ARGV: job id, attempt, the failure's JSON, retention in s. 0: not its attempt any more.
FAIL = f"""{SHARED}
local id = ARGV[1]
if not is_last(id, ARGV[2]) then return 0 end
if redis.call('HGET', JOB .. id, 'status') == 'running' then end_attempt(id, 'failed', ARGV[3]) end
redis.call('HSET', JOB .. id, 'failure', ARGV[3])
finish(id, 'failed', ARGV[4])
return 1
"""

# ARGV: job id, attempt, the failure's JSON, wait in ms, most attempts that end so, retention of a dead job and of
# others in s. 'queued', 'dead' or 'cancelled'; '': not its attempt any more.
RETRY = f"""{SHARED}
local id = ARGV[1]
if redis.call('HGET', JOB .. id, 'status') ~= 'running' or not is_last(id, ARGV[2]) then return '' end
if redis.call('HINCRBY', JOB .. id, 'retries', 1) >= tonumber(ARGV[5]) then
  end_attempt(id, 'dead', ARGV[3])
  redis.call('HSET', JOB .. id, 'failure', ARGV[3])
  finish(id, 'dead', ARGV[6])
else
  end_attempt(id, 'retried', ARGV[3])
  wait(id, now_ms() + ARGV[4], ARGV[7])
end
return redis.call('HGET', JOB .. id, 'status')
"""

# ARGV: job id, attempt, retention in s. 0: not its attempt any more.
HAND_BACK = f"""{SHARED}
if redis.call('HGET', JOB .. ARGV[1], 'status') ~= 'running' or not is_last(ARGV[1], ARGV[2]) then return 0 end
end_attempt(ARGV[1], 'handed_back', '')
wait(ARGV[1], now_ms(), ARGV[3])
return 1
"""

# ARGV: job id, attempt, retention in s. 0: not its attempt any more.
CANCELLED = f"""{SHARED}
if redis.call('HGET', JOB .. ARGV[1], 'status') ~= 'running' or not is_last(ARGV[1], ARGV[2]) then return 0 end
end_attempt(ARGV[1], 'cancelled', '')
finish(ARGV[1], 'cancelled', ARGV[3])
return 1
"""

# ARGV: job id, its JSON, creation time in ms, its batch or '', its place there or -1, lane, retention in s.
# The status that it has now: 'running' is cancelled by whoever runs it. '': there is no such job.
CANCEL = f"""{SHARED}
local id = ARGV[1]
if redis.call('EXISTS', JOB .. id) == 0 then
  local batch = redis.call('HMGET', BATCH .. ARGV[4], 'cursor', 'cancelled_ms')
  if not batch[1] or tonumber(ARGV[5]) < tonumber(batch[1]) then return '' end
  if batch[2] then return 'cancelled' end
  enter(id, ARGV[2], ARGV[3], ARGV[4], ARGV[5])
end
local status = redis.call('HGET', JOB .. id, 'status')
if status == 'running' then
  redis.call('HSET', JOB .. id, 'cancel', 1)
elseif status == 'queued' then
  leave_line(id, ARGV[6])
  finish(id, 'cancelled', ARGV[7])
end
return redis.call('HGET', JOB .. id, 'status')
"""

# ARGV: holder (worker/pid), most losses, failure of a lost attempt, retention of a dead job and of others in s.
# The id of the job that it held; '': none.
LOSE_HOLDER = f"""{SHARED}
local id = redis.call('HGET', HOLDERS, ARGV[1])
if not id then return '' end
local was = redis.call('HMGET', JOB .. id, 'status', 'worker')
if was[1] ~= 'running' or was[2] ~= ARGV[1] then
  redis.call('HDEL', HOLDERS, ARGV[1])
  return ''
end
lose(id, ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return id
"""

# ARGV: most losses, failure of a lost attempt, retention of a dead job and of others in s, how many at most.
# Ids of the jobs whose leases were over.
LOSE_EXPIRED = f"""{SHARED}
local ids = redis.call('ZRANGE', LEASES, '-inf', whole(now_ms()), 'BYSCORE', 'LIMIT', 0, ARGV[5])
for _, id in ipairs(ids) do
  if redis.call('HGET', JOB .. id, 'status') == 'running' then
    lose(id, ARGV[1], ARGV[2], ARGV[3], ARGV[4])
  else
    redis.call('ZREM', LEASES, id)
  end
end
return ids
"""

# ARGV: job id, lane. 0: it is neither failed nor dead. -1: there is no such job.
REPLAY = f"""{SHARED}
local id = ARGV[1]
local status = redis.call('HGET', JOB .. id, 'status')
if not status then return -1 end
if status ~= 'failed' and status ~= 'dead' then return 0 end
redis.call('PERSIST', JOB .. id)
redis.call('HDEL', JOB .. id, 'failure', 'finished_ms', 'losses', 'retries', 'worker', 'started_ms')
redis.call('HSET', JOB .. id, 'queued_ms', whole(now_ms()))
local batch_id = move(id, 'queued')
if batch_id then
  redis.call('HDEL', BATCH .. batch_id, 'finished_ms')
  redis.call('PERSIST', BATCH .. batch_id)
  redis.call('PERSIST', CALLS .. batch_id)
end
stand_in_line(id, ARGV[2])
return 1
"""

# ARGV: job id. 0: it is not dead.
PURGE = f"""{SHARED}
if redis.call('HGET', JOB .. ARGV[1], 'status') ~= 'dead' then return 0 end
forget(ARGV[1])
return 1
"""
