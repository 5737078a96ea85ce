"""When a delivery is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from config.settings import WebhooksSettings
from tests.webhook_receiver import SECRET
from warmline.jobs.deliveries import KEPT_TRIES, Delivery, DeliveryStatus
from warmline.webhooks.outcome import after_try
from warmline.webhooks.posting import Answer
from warmline.webhooks.retries import JITTER, parse_retry_after, wait_seconds

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
SETTINGS = WebhooksSettings(secrets=(SecretStr(SECRET),))
BROKEN = Answer(at=NOW, seconds=0.5, status_code=500, error="The receiver answered 500.")
WELL = Answer(at=NOW, seconds=0.5, status_code=204)


def delivery() -> Delivery:
    return Delivery(id="a" * 32, event="job.succeeded", subject_id="b" * 32, created_at=NOW, body="{}")


def test_waits_grow_up_to_the_longest_and_reach_over_a_night() -> None:
    planned = [5, 20, 80, 320, 1280, 5120, 20480, 21600, 21600]
    for tries_made, seconds in enumerate(planned, 1):
        waits = [wait_seconds(SETTINGS, tries_made, None) for _ in range(50)]
        assert min(waits) >= seconds * (1 - JITTER)
        assert max(waits) <= seconds * (1 + JITTER)
        assert len(set(waits)) > 10  # by chance
    assert sum(planned) == pytest.approx(19.6 * 3600, rel=0.01)


def test_a_receiver_may_ask_for_longer_but_not_for_ever_and_not_for_less() -> None:
    assert wait_seconds(SETTINGS, 1, 60.0) == 60
    assert wait_seconds(SETTINGS, 1, 1e9) == SETTINGS.max_retry_seconds
    assert wait_seconds(SETTINGS, 4, 1.0) >= 320 * (1 - JITTER)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None), ("120", 120), ("0", 0), ("Mon, 23 Nov 2026 06:02:00 GMT", 120), ("soon", None), ("-5", None),
        ("Mon, 23 Nov 2026 05:00:00 GMT", 0), ("1e3", None), ("9" * 400, 999_999_999), ("", None), ("²", None),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, NOW) == seconds


def test_ten_tries_then_it_is_given_up() -> None:
    now, delay = delivery(), 0.0
    for made in range(1, 11):
        assert now.status is DeliveryStatus.PENDING
        now, delay = after_try(now, BROKEN, SETTINGS)
        assert (now.tries_made, len(now.tries)) == (made, made)
        if made < 10:
            assert now.next_try_at == NOW + timedelta(seconds=0.5 + delay)
    assert (now.status, now.next_try_at, delay) == (DeliveryStatus.FAILED, None, 0)


def test_a_redelivered_one_has_as_many_tries_as_a_new_one() -> None:
    failed = delivery().model_copy(update={"status": DeliveryStatus.FAILED, "tries_made": 10})
    again, _ = after_try(failed, BROKEN, SETTINGS)
    assert (again.status, again.tries_made) == (DeliveryStatus.PENDING, 1)
    well, _ = after_try(again, WELL, SETTINGS)
    assert (well.status, well.tries[-1].status_code) == (DeliveryStatus.DELIVERED, 204)


def test_gone_is_given_up_at_once() -> None:
    gone, _ = after_try(delivery(), Answer(at=NOW, seconds=0, status_code=410, error="gone"), SETTINGS)
    assert gone.status is DeliveryStatus.FAILED


def test_the_log_of_tries_does_not_grow() -> None:
    now = delivery()
    for _ in range(50):
        now, _ = after_try(now, BROKEN, SETTINGS)
    assert len(now.tries) == KEPT_TRIES
