"""A connection to the Redis of the ledger: the only place where its errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from config.settings import JobsSettings, RedisSettings
from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.layout import look_at_layout

START_PATIENCE_SECONDS = 1.0


@contextmanager
def redis_answers() -> Iterator[None]:
    """Raises LedgerUnavailable for whatever the client raises."""
    try:
        yield
    except redis.AuthenticationError as error:
        raise LedgerUnavailable(
            f"Redis wants another password: {error}; check WARMLINE_REDIS_PASSWORD and WARMLINE_REDIS_URL."
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise LedgerUnavailable(f"Redis does not answer: {error}; check WARMLINE_REDIS_URL.") from error
    except redis.RedisError as error:
        raise LedgerUnavailable(f"Redis refuses to work: {error}; check its memory and its log.") from error


def make_client(settings: RedisSettings) -> redis.Redis:
    """A client for the address in the settings, which connects at its first use.

    Each of its connections looks at the ledger's layout: any method of the client may raise LedgerTooNew.
    """
    return redis.Redis.from_url(
        settings.url.get_secret_value(),
        decode_responses=True,
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        socket_keepalive=True,
        health_check_interval=30,
        # One more try reaches a Redis that closed an idle connection; a caller that can wait has its own.
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 1),
        redis_connect_func=look_at_layout,
    )


def refuse_newer_ledger(settings: RedisSettings) -> None:
    """For a process that starts. Raises LedgerTooNew.

    A Redis that does not answer yet is left to whoever will wait for it, and meets the same error then.
    """
    patience = min(settings.timeout_seconds, START_PATIENCE_SECONDS)
    client = make_client(settings.model_copy(update={"timeout_seconds": patience}))
    with client, suppress(redis.RedisError):
        client.ping()


class Connection:
    """A client with its scripts. Threads may share it, and so may a process and its forks."""

    def __init__(self, client: redis.Redis, jobs: JobsSettings) -> None:
        # redis-py's answers are typed "this, or an awaitable of it": the edge is untyped, the methods are not.
        self._redis: Any = client
        self._jobs = jobs
        self._scripts: dict[str, Any] = {}

    @classmethod
    def connect(cls, settings: RedisSettings, jobs: JobsSettings) -> Self:
        """At the address in the settings. Connects at first use, so it does not fail here."""
        return cls(make_client(settings), jobs)

    def close(self) -> None:
        """Closes the connections; the next call opens new ones."""
        self._redis.close()

    @redis_answers()
    def ping(self) -> None:
        """Returns when Redis answers."""
        self._redis.ping()

    def _script(self, source: str) -> Any:
        if source not in self._scripts:
            self._scripts[source] = self._redis.register_script(source)
        return self._scripts[source]

    def _run(self, source: str, *args: str | int) -> Any:
        return self._script(source)(args=args)
