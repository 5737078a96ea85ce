"""The scripts of what waits: a batch is put in line or taken out of it, and jobs go from their lines to Celery."""

from __future__ import annotations

from warmline.jobs import keys
from warmline.jobs.transitions import SHARED

# ARGV: batch id, lane, what its jobs have in common (JSON), creation time in ms, most jobs that may wait; of a
# request that is to be done once its name, else '', what is remembered of it, for how long in s.
# Its calls are in the list of CALLS already, which would expire. Their number, which may be 0; -1: too many wait.
# A string: what is remembered of the same request, which has opened a batch meanwhile.
OPEN_BATCH = f"""{SHARED}
local id, lane = ARGV[1], ARGV[2]
local total = redis.call('LLEN', CALLS .. id)
if redis.call('EXISTS', BATCH .. id) == 1 then return total end
local known = ARGV[6] ~= '' and redis.call('GET', REQUEST .. ARGV[6])
if known and not string.find(known, ' 0$') then
  redis.call('DEL', CALLS .. id)
  return known
end
if total == 0 then return 0 end
if waiting() + total > tonumber(ARGV[5]) then
  redis.call('DEL', CALLS .. id)
  return -1
end
redis.call('PERSIST', CALLS .. id)
redis.call('HSET', BATCH .. id, 'created_ms', ARGV[4], 'lane', lane, 'template', ARGV[3],
           'total', total, 'queued', total, 'cursor', 0, 'ahead', 0)
redis.call('ZADD', BATCHES, ARGV[4], id)
sweep(BATCHES, BATCH)
redis.call('HINCRBY', WAITING, lane, total)
redis.call('RPUSH', TURN .. lane, id)
if ARGV[6] ~= '' then redis.call('SET', REQUEST .. ARGV[6], ARGV[7], 'EX', ARGV[8]) end
ring()
return total
"""

# ARGV: batch id, retention in s. 0: there is no such batch. Those of its jobs that were sent are another matter.
CANCEL_WAITING = f"""{SHARED}
local id = ARGV[1]
local batch = redis.call('HMGET', BATCH .. id, 'lane', 'total', 'cursor', 'ahead', 'cancelled_ms')
if not batch[1] then return 0 end
local left = batch[2] - batch[3]
if batch[5] or left == 0 then return 1 end
redis.call('HSET', BATCH .. id, 'cancelled_ms', whole(now_ms()))
redis.call('HINCRBY', BATCH .. id, 'queued', batch[4] - left)
redis.call('HINCRBY', BATCH .. id, 'cancelled', left - batch[4])
redis.call('HINCRBY', COUNTS, 'job:cancelled', left - batch[4])
redis.call('HINCRBY', WAITING, batch[1], -left)
redis.call('LREM', TURN .. batch[1], 0, id)
end_batch_if_done(id, ARGV[2])
return 1
"""

# ARGV: the feeder's token, lane, then seven for each job: the line it comes from, its id, its place in that line,
# its JSON, its creation time in ms, the list that its message goes to, and the message. Lines: a batch's id,
# SINGLES_LINE, 'delayed', or 'again' for a job whose message is gone (place: when that was sent).
# How many were sent; -1: somebody else feeds now. What is not as the feeder saw it is left alone.
FEED = f"""{SHARED}
if redis.call('GET', '{keys.FEEDER}') ~= ARGV[1] then return -1 end
local lane, sent = ARGV[2], 0

local function send(id, list, message)
  redis.call('ZADD', SENT, whole(now_ms()), id)
  redis.call('LPUSH', list, message)
  sent = sent + 1
end

local function turn(line, more)
  redis.call('LREM', TURN .. lane, 1, line)
  if more then redis.call('RPUSH', TURN .. lane, line) end
end

local function from_singles(id, list, message)
  if redis.call('LINDEX', SINGLES .. lane, 0) ~= id then return end
  redis.call('LPOP', SINGLES .. lane)
  redis.call('HINCRBY', WAITING, lane, -1)
  turn(SINGLES_LINE, redis.call('EXISTS', SINGLES .. lane) == 1)
  if redis.call('HGET', JOB .. id, 'status') == 'queued' then send(id, list, message) end
end

local function from_batch(batch_id, id, place, job, created_ms, list, message)
  local batch = redis.call('HMGET', BATCH .. batch_id, 'cursor', 'total', 'cancelled_ms')
  if batch[1] ~= place or batch[3] then return end
  redis.call('HINCRBY', WAITING, lane, -1)
  turn(batch_id, place + 1 < tonumber(batch[2]))
  if redis.call('EXISTS', JOB .. id) == 1 then
    redis.call('HINCRBY', BATCH .. batch_id, 'ahead', -1)
  else
    redis.call('HINCRBY', BATCH .. batch_id, 'cursor', 1)
    enter(id, job, created_ms, batch_id, place)
    return send(id, list, message)
  end
  redis.call('HINCRBY', BATCH .. batch_id, 'cursor', 1)
end

for at = 3, #ARGV, 7 do
  local line, id, place, job, created_ms, list, message = unpack(ARGV, at, at + 6)
  if line == 'delayed' then
    if redis.call('ZREM', DELAYED, id) == 1 and redis.call('HGET', JOB .. id, 'status') == 'queued' then
      send(id, list, message)
    end
  elseif line == 'again' then
    if redis.call('ZSCORE', SENT, id) == place then send(id, list, message) end
  elseif line == SINGLES_LINE then
    from_singles(id, list, message)
  else
    from_batch(line, id, place, job, created_ms, list, message)
  end
end
return sent
"""

# ARGV: how many at most. Puts what is due of what was held back into the lines; how many.
RELEASE = f"""{SHARED}
local due = redis.call('ZRANGE', HELD, '-inf', whole(now_ms()), 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  redis.call('ZREM', HELD, member)
  local lane, id = string.match(member, '^(%a+):(%x+)$')
  if redis.call('HGET', JOB .. id, 'status') == 'queued' then
    redis.call('HDEL', JOB .. id, 'retry_at_ms')
    redis.call('HSET', JOB .. id, 'queued_ms', whole(now_ms()))  -- it waits from now on
    stand_in_line(id, lane)
  end
end
return #due
"""

# ARGV: a token, for how long it is to be the holder, in ms, 1 for one that is preferred. 1: it is.
_HOLD = """
local holder = redis.call('GET', '{holder}')
if ARGV[3] == '1' then
  redis.call('SET', '{preferred}', ARGV[1], 'PX', ARGV[2])
elseif redis.call('EXISTS', '{preferred}') == 1 then
  if holder == ARGV[1] then redis.call('DEL', '{holder}') end
  return 0
end
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', '{holder}', ARGV[1], 'PX', ARGV[2])
return 1
"""

# ARGV: the token.
_LEAVE = """
if redis.call('GET', '{preferred}') == ARGV[1] then redis.call('DEL', '{preferred}') end
if redis.call('GET', '{holder}') ~= ARGV[1] then return 0 end
redis.call('DEL', '{holder}')
redis.call('PUBLISH', '{bell}', '')
return 1
"""

HOLD_FEEDER = _HOLD.format(holder=keys.FEEDER, preferred=keys.PREFERRED)
LEAVE_FEEDER = _LEAVE.format(holder=keys.FEEDER, preferred=keys.PREFERRED, bell=keys.BELL)
HOLD_DELIVERER = _HOLD.format(holder=keys.DELIVERER, preferred=keys.PREFERRED_DELIVERER)
LEAVE_DELIVERER = _LEAVE.format(holder=keys.DELIVERER, preferred=keys.PREFERRED_DELIVERER, bell=keys.BELL)
