"""What becomes of a delivery after a try."""

from __future__ import annotations

from datetime import timedelta

from config.settings import WebhooksSettings
from warmline.jobs.deliveries import KEPT_TRIES, Delivery, DeliveryStatus, Try
from warmline.webhooks.posting import GONE, Answer
from warmline.webhooks.retries import wait_seconds


def after_try(delivery: Delivery, answer: Answer, settings: WebhooksSettings) -> tuple[Delivery, float]:
    """The delivery with this try, and in how many seconds it is tried again if it is pending.

    One that had ended before is redelivered: it gets as many tries as a new one.
    """
    tries_made = 1 + (delivery.tries_made if delivery.status is DeliveryStatus.PENDING else 0)
    delay_seconds = 0.0
    if answer.error is None:
        status = DeliveryStatus.DELIVERED
    elif answer.status_code == GONE or tries_made >= settings.max_attempts:
        status = DeliveryStatus.FAILED
    else:
        status = DeliveryStatus.PENDING
        delay_seconds = wait_seconds(settings, tries_made, answer.retry_after_seconds)
    ended_at = answer.at + timedelta(seconds=answer.seconds)
    made = Try(at=answer.at, seconds=answer.seconds, status_code=answer.status_code, error=answer.error)
    changed: dict[str, object] = {
        "status": status,
        "tries": (*delivery.tries, made)[-KEPT_TRIES:],
        "tries_made": tries_made,
        "next_try_at": ended_at + timedelta(seconds=delay_seconds) if status is DeliveryStatus.PENDING else None,
    }
    return delivery.model_copy(update=changed), delay_seconds


def given_up(delivery: Delivery, answer: Answer) -> Delivery:
    """The delivery, which nobody tries to deliver any more; `answer` has the reason."""
    made = Try(at=answer.at, seconds=answer.seconds, error=answer.error)
    changed: dict[str, object] = {
        "status": DeliveryStatus.FAILED,
        "tries": (*delivery.tries, made)[-KEPT_TRIES:],
        "next_try_at": None,
    }
    return delivery.model_copy(update=changed)
