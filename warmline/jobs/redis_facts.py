"""What a Redis says of itself that decides whether jobs are safe with it."""

from __future__ import annotations

from dataclasses import dataclass

import redis

from config.settings import RedisSettings
from warmline.jobs import keys
from warmline.jobs.errors import LedgerUnavailable


@dataclass(frozen=True, kw_only=True)
class RedisFacts:
    """A server's own words."""

    name: str  # Redis, Valkey
    version: str
    append_only: bool
    maxmemory_bytes: int  # 0: no limit
    maxmemory_policy: str
    ledger: str | None  # what `keys.VERSION` holds; None: no Warmline has been here, or 0.1 alone


def read_redis_facts(settings: RedisSettings) -> RedisFacts:
    """Asks the server at the address in the settings. Raises LedgerUnavailable."""
    try:
        client = redis.Redis.from_url(
            settings.url.get_secret_value(),
            decode_responses=True,
            socket_timeout=settings.timeout_seconds,
            socket_connect_timeout=settings.timeout_seconds,
        )
    except ValueError as error:
        raise LedgerUnavailable(f"WARMLINE_REDIS_URL is not a usable address: {error}.") from error
    try:
        # INFO and not CONFIG: managed services forbid the latter.
        info = client.info()
        ledger = client.get(keys.VERSION)
    except redis.RedisError as error:
        raise LedgerUnavailable(f"Redis does not answer: {error}; check WARMLINE_REDIS_URL.") from error
    finally:
        client.close()
    assert isinstance(info, dict)  # noqa: S101 - its type says "or an awaitable"
    return RedisFacts(
        name="Valkey" if "valkey_version" in info else "Redis",
        version=str(info.get("valkey_version") or info.get("redis_version", "?")),
        append_only=bool(int(info.get("aof_enabled", 0))),
        maxmemory_bytes=int(info.get("maxmemory", 0)),
        maxmemory_policy=str(info.get("maxmemory_policy", "unknown")),
        ledger=None if ledger is None else str(ledger),
    )
