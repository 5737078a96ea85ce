"""A test event, posted now and once to every receiver: does it take what comes, and what does it answer?"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final

from pydantic import Field

from config.settings import WebhooksSettings
from warmline.jobs.deliveries import EVENT_DIGITS, webhook_id
from warmline.jobs.records import Record
from warmline.webhooks.events import Event
from warmline.webhooks.posting import Receiver, make_receivers

SHOWN_BYTES: Final = 500  # of an answer


class Trial(Record):
    """What came of a test event."""

    endpoint_id: str
    url: str = Field(description="without its query: that may be a secret")
    webhook_id: str
    seconds: float
    status_code: int | None = Field(description="null: there was no answer")
    error: str | None = Field(description="null: the receiver took it")
    answer: str = Field(description=f"the beginning of the answer's body, at most {SHOWN_BYTES} bytes")


async def try_out(settings: WebhooksSettings) -> Sequence[Trial]:
    """Posts a test event to every address in the settings. Raises SettingsError."""
    receivers = make_receivers(settings).values()
    try:
        return await asyncio.gather(*map(_try_one, receivers))
    finally:
        for receiver in receivers:
            await receiver.close()


async def _try_one(receiver: Receiver) -> Trial:
    message_id = webhook_id(secrets.token_hex(EVENT_DIGITS // 2))
    answer = await receiver.post(message_id, Event.test().model_dump_json())
    return Trial(
        endpoint_id=receiver.id,
        url=receiver.shown,
        webhook_id=message_id,
        seconds=round(answer.seconds, 3),
        status_code=answer.status_code,
        error=answer.error,
        answer=answer.body[:SHOWN_BYTES].decode(errors="replace"),
    )
