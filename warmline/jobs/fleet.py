"""The workers, by the heartbeats that they leave in Redis: those that are alive, and those that fell silent.

A worker that ends because it was told to takes its heartbeat away. One that does not beat any more without having
said so is remembered for a while, so that somebody learns that it is missing. Where it had said that it drains,
nobody has to: it has ended, or its machine was taken away as announced; its jobs come back by their leases.

All times are Redis's own, and so is the judgement who is alive: keys expire there. Hosts' clocks may differ by
more than a heartbeat, and a reader whose clock is wrong would see a dead fleet, or a dead worker alive.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmline.jobs import keys
from warmline.jobs.connection import Connection, redis_answers
from warmline.jobs.records import WorkerState

# ARGV: worker name, its state's JSON, for how long that makes it alive, and is remembered after that, in ms.
BEAT = f"""
local time = redis.call('TIME')
redis.call('SET', '{keys.WORKER}' .. ARGV[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', '{keys.WORKERS}', string.format('%s.%06d', time[1], time[2]), ARGV[1])
if tonumber(ARGV[4]) > 0 then
  redis.call('SET', '{keys.LAST_BEAT}' .. ARGV[1], ARGV[2], 'PX', string.format('%.0f', ARGV[3] + ARGV[4]))
end
"""

# ARGV: worker name, its last state's JSON, how long it is remembered, in ms.
GIVE_UP = f"""
redis.call('DEL', '{keys.WORKER}' .. ARGV[1])
if tonumber(ARGV[3]) > 0 then
  redis.call('SET', '{keys.LAST_BEAT}' .. ARGV[1], ARGV[2], 'PX', ARGV[3])
end
"""


@dataclass(frozen=True, kw_only=True)
class Silent:
    """A worker that has stopped beating without a word, or that gave up: what it said last."""

    worker: WorkerState
    seconds: float  # since then


class Fleet(Connection):
    """The part of the ledger that knows workers."""

    @redis_answers()
    def beat(self, worker: WorkerState, *, ttl_seconds: float, remembered_seconds: float = 0.0) -> None:
        """Says that a worker is alive, for so long, and who it was for so long after that."""
        milliseconds = int(ttl_seconds * 1000), int(remembered_seconds * 1000)
        self._run(BEAT, worker.name, worker.model_dump_json(), *milliseconds)

    @redis_answers()
    def leave(self, worker_name: str) -> None:
        """Takes a worker's heartbeat away, and forgets it: it has stopped, as it was told to."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.worker(worker_name), keys.last_beat(worker_name))
            pipe.zrem(keys.WORKERS, worker_name)
            pipe.execute()

    @redis_answers()
    def give_up(self, worker: WorkerState, *, remembered_seconds: float) -> None:
        """Takes a worker's heartbeat away, and remembers it for so long: it has stopped, and should not have."""
        self._run(GIVE_UP, worker.name, worker.model_dump_json(), int(remembered_seconds * 1000))

    def workers(self) -> tuple[WorkerState, ...]:
        """The workers that are alive, by name."""
        return self.everyone()[0]

    def silent(self) -> tuple[Silent, ...]:
        """The workers that have fallen silent, by name, while they are remembered."""
        return self.everyone()[1]

    @redis_answers()
    def everyone(self) -> tuple[tuple[WorkerState, ...], tuple[Silent, ...]]:
        """Those that are alive and those that have fallen silent, of one moment."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zrange(keys.WORKERS, 0, -1, withscores=True)
            pipe.time()
            members, (seconds, micros) = pipe.execute()
        if not members:
            return (), ()
        since: dict[str, float] = dict(sorted(members))
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.mget([keys.worker(name) for name in since])
            pipe.mget([keys.last_beat(name) for name in since])
            beats, last_beats = pipe.execute()
        alive: list[WorkerState] = []
        silent: list[Silent] = []
        forgotten: list[str] = []
        for name, beat, last_beat in zip(since, beats, last_beats, strict=True):
            last = None if last_beat is None else WorkerState.read(last_beat)
            if beat is not None:
                alive.append(WorkerState.read(beat))
            elif last is None or (last.draining and not last.ended_because):
                forgotten.append(name)
            else:
                age = max(0.0, seconds + micros / 1e6 - since[name])
                silent.append(Silent(worker=last, seconds=age))
        if forgotten:
            self._redis.zrem(keys.WORKERS, *forgotten)
        return tuple(alive), tuple(silent)
