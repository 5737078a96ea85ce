"""The deliveries' writes, as Lua that Redis runs atomically. What a deliverer writes names its token: one that
holds the lease no more changes nothing.
"""

from __future__ import annotations

from warmline.jobs import keys
from warmline.jobs.deliveries import EVENT_DIGITS, DeliveryStatus

PENDING, DELIVERED, FAILED = DeliveryStatus

_SHARED = f"""
local DELIVERY, DUE, DELIVERIES = '{keys.DELIVERY}', '{keys.DUE}', '{keys.DELIVERIES}'
local ENDINGS, ENDPOINTS, CURSORS = '{keys.ENDINGS}', '{keys.ENDPOINTS}', '{keys.CURSORS}'

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function whole(number) return string.format('%.0f', number) end

local function holds(token) return redis.call('GET', '{keys.DELIVERER}') == token end

local function forget(listing, id)
  redis.call('ZREM', listing, id)
  redis.call('DEL', DELIVERY .. id)
end

-- What every endpoint has its delivery of is not needed any more.
local function trim_endings()
  local least_ms, least_number
  for _, place in ipairs(redis.call('HVALS', CURSORS)) do
    local ms, number = string.match(place, '(%d+)-(%d+)')
    ms, number = tonumber(ms), tonumber(number)
    if not least_ms or ms < least_ms or (ms == least_ms and number < least_number) then
      least_ms, least_number = ms, number
    end
  end
  if least_ms then redis.call('XTRIM', ENDINGS, 'MINID', whole(least_ms) .. '-' .. whole(least_number + 1)) end
end
"""

# ARGV: token, how many events are told of, then these, how many may wait, then for each endpoint its id and its
# JSON. 0: another one delivers. An endpoint that is new gets what happens from now on; one that comes instead of
# all that were there gets what they had not. One that is not wanted any more stays until nothing is due for it.
BEGIN = f"""{_SHARED}
if not holds(ARGV[1]) then return 0 end
local events = tonumber(ARGV[2])
local most = ARGV[3 + events]
redis.call('DEL', '{keys.LISTENED}')
for at = 3, 2 + events do redis.call('HSET', '{keys.LISTENED}', ARGV[at], most) end
local wanted, kept = {{}}, 0
for at = 4 + events, #ARGV, 2 do
  wanted[ARGV[at]] = true
  redis.call('HSETNX', ENDPOINTS, ARGV[at], ARGV[at + 1])
  kept = kept + redis.call('HEXISTS', CURSORS, ARGV[at])
end
for _, id in ipairs(redis.call('HKEYS', ENDPOINTS)) do
  if not wanted[id] then
    redis.call('HDEL', CURSORS, id)
    if redis.call('EXISTS', DUE .. id) == 0 then redis.call('HDEL', ENDPOINTS, id) end
  end
end
local last = redis.call('XREVRANGE', ENDINGS, '+', '-', 'COUNT', 1)[1]
local start = kept > 0 and last and last[1] or '0-0'
for id in pairs(wanted) do redis.call('HSETNX', CURSORS, id, start) end
trim_endings()
return 1
"""

# No ARGV. How many endings nobody will be told of; -1: somebody delivers; -2: it was off.
SWITCH_OFF = f"""{_SHARED}
if redis.call('EXISTS', '{keys.DELIVERER}') == 1 then return -1 end
if redis.call('EXISTS', '{keys.LISTENED}') == 0 then return -2 end
local waiting = redis.call('XLEN', ENDINGS)
redis.call('DEL', '{keys.LISTENED}', ENDINGS, '{keys.DROPPED}', CURSORS, ENDPOINTS)
return waiting
"""

# ARGV: token, endpoint's id, the last ending that is taken, then for each delivery its id, the time of its event
# in ms, and it, packed. 0: another one delivers.
ADD = f"""{_SHARED}
if not holds(ARGV[1]) then return 0 end
if redis.call('HEXISTS', CURSORS, ARGV[2]) == 0 then return 0 end
for at = 4, #ARGV, 3 do
  local id, created_ms, packed = unpack(ARGV, at, at + 2)
  redis.call('SET', DELIVERY .. id, packed)
  redis.call('ZADD', DELIVERIES .. '{PENDING}', created_ms, id)
  redis.call('ZADD', DUE .. ARGV[2], whole(now_ms()), id)
end
redis.call('HSET', CURSORS, ARGV[2], ARGV[3])
trim_endings()
return 1
"""

# ARGV: token, delivery's id, it, packed, its status, the time of its event in ms, in how many ms it is tried
# again, retention in s, how many that have ended are kept. 0: another one delivers.
RECORD = f"""{_SHARED}
if not holds(ARGV[1]) then return 0 end
local id, status = ARGV[2], ARGV[4]
local due = DUE .. string.sub(id, {EVENT_DIGITS + 1})
for _, other in ipairs({{'{PENDING}', '{DELIVERED}', '{FAILED}'}}) do
  if other ~= status then redis.call('ZREM', DELIVERIES .. other, id) end
end
redis.call('ZADD', DELIVERIES .. status, ARGV[5], id)
if status == '{PENDING}' then
  redis.call('SET', DELIVERY .. id, ARGV[3])
  redis.call('ZADD', due, whole(now_ms() + ARGV[6]), id)
  return 1
end
redis.call('SET', DELIVERY .. id, ARGV[3], 'EX', ARGV[7])
redis.call('ZREM', due, id)
for _, oldest in ipairs(redis.call('ZRANGE', DELIVERIES .. status, 0, 9)) do
  if redis.call('EXISTS', DELIVERY .. oldest) == 0 then redis.call('ZREM', DELIVERIES .. status, oldest) end
end
-- The log is full: what was delivered goes before what was not, and the oldest first.
local delivered, failed = DELIVERIES .. '{DELIVERED}', DELIVERIES .. '{FAILED}'
local over = redis.call('ZCARD', delivered) + redis.call('ZCARD', failed) - ARGV[8]
for _ = 1, math.min(over, 10) do
  local listing = redis.call('EXISTS', delivered) == 1 and delivered or failed
  forget(listing, redis.call('ZRANGE', listing, 0, 0)[1])
end
return 1
"""

# ARGV: delivery ids. How many of them are tried now; the others are gone, or their endpoint is.
REDELIVER = f"""{_SHARED}
local found = 0
for _, id in ipairs(ARGV) do
  local endpoint = string.sub(id, {EVENT_DIGITS + 1})
  if redis.call('EXISTS', DELIVERY .. id) == 1 and redis.call('HEXISTS', ENDPOINTS, endpoint) == 1 then
    redis.call('ZADD', DUE .. endpoint, whole(now_ms()), id)
    found = found + 1
  end
end
return found
"""

# ARGV: endpoint's id, its JSON. 0: there is none.
CHANGE_ENDPOINT = f"""
if redis.call('HEXISTS', '{keys.ENDPOINTS}', ARGV[1]) == 0 then return 0 end
redis.call('HSET', '{keys.ENDPOINTS}', ARGV[1], ARGV[2])
return 1
"""
