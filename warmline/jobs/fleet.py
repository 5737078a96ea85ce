"""The workers that are alive, by the heartbeats that they leave in Redis."""

from __future__ import annotations

from warmline.jobs import keys
from warmline.jobs.connection import Connection, redis_answers
from warmline.jobs.records import WorkerState


class Fleet(Connection):
    """The part of the ledger that knows workers."""

    @redis_answers()
    def beat(self, worker: WorkerState, *, ttl_seconds: float) -> None:
        """Says that a worker is alive, for so long."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.worker(worker.name), worker.model_dump_json(), px=int(ttl_seconds * 1000))
            pipe.zadd(keys.WORKERS, {worker.name: worker.seen_at.timestamp()})
            pipe.execute()

    @redis_answers()
    def leave(self, worker_name: str) -> None:
        """Takes a worker's heartbeat away: it has stopped."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.worker(worker_name))
            pipe.zrem(keys.WORKERS, worker_name)
            pipe.execute()

    @redis_answers()
    def workers(self) -> tuple[WorkerState, ...]:
        """The workers that are alive, by name."""
        names: list[str] = sorted(self._redis.zrange(keys.WORKERS, 0, -1))
        if not names:
            return ()
        beats: list[str | None] = self._redis.mget([keys.worker(name) for name in names])
        gone = [name for name, beat in zip(names, beats, strict=True) if beat is None]
        if gone:
            self._redis.zrem(keys.WORKERS, *gone)
        return tuple(WorkerState.parse(beat) for beat in beats if beat is not None)
