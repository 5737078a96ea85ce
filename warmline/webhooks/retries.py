"""When a delivery is tried again: four times as long each time, a fifth more or less by chance."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from config.settings import WebhooksSettings

GROWTH: Final = 4.0  # ten tries reach over most of a day: a receiver may be down for a night
JITTER: Final = 0.2  # so that what failed together does not come back together


def wait_seconds(settings: WebhooksSettings, tries_made: int, retry_after_seconds: float | None) -> float:
    """How long to wait after so many tries. The receiver may ask for longer, up to the longest wait."""
    own = min(settings.retry_seconds * GROWTH ** (tries_made - 1), settings.max_retry_seconds)
    own *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  # no secret
    return max(own, min(retry_after_seconds or 0.0, settings.max_retry_seconds))


def parse_retry_after(text: str | None, now: datetime) -> float | None:
    """The header Retry-After in seconds: a number, or a date. None where there is none, or nonsense."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
