"""Which ledgers this version works with, on a real Redis."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pytest
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings, Settings
from tests.servers import RedisServer
from tests.unit.jobs.conftest import NewJob
from warmline.jobs import keys
from warmline.jobs.connection import refuse_newer_ledger
from warmline.jobs.deliveries import Endpoint
from warmline.jobs.delivery_ledger import DeliveryLedger
from warmline.jobs.errors import LedgerTooNew, LedgerUnavailable
from warmline.jobs.feeder import Feeder
from warmline.jobs.layout import LAYOUT, OLDEST_READER, LedgerLayout, look_at_layout
from warmline.jobs.ledger import Ledger


def say(raw: Any, *, layout: int, oldest_reader: int, **more: object) -> str:
    """The key as a version with this layout writes it."""
    text = json.dumps(
        {
            "layout": layout,
            "oldest_reader": oldest_reader,
            "written_by": "9.0.0",
            "written_at": datetime.now(UTC).isoformat(),
        }
        | more
    )
    raw.set(keys.VERSION, text)
    return text


def test_the_first_that_comes_says_which_layout_it_is(ledger: Ledger, settings: Settings, raw: Any) -> None:
    assert raw.get(keys.VERSION) is None
    ledger.ping()
    written = raw.get(keys.VERSION)
    found = LedgerLayout.read(written)
    assert (found.layout, found.oldest_reader) == (LAYOUT, OLDEST_READER)
    assert found.written_by == version("warmline")
    # And the next one leaves it as it is
    other = Ledger.connect(settings.redis, settings.jobs)
    other.ping()
    other.close()
    assert raw.get(keys.VERSION) == written


class SlowConnection:
    """A real connection on which another process is quicker: it writes the key just before this one would."""

    def __init__(self, connection: Any, raw: Any) -> None:
        self._connection, self._raw = connection, raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def send_command(self, command: str, *args: Any, **options: Any) -> None:
        if command == "SET":
            say(self._raw, layout=LAYOUT + 1, oldest_reader=LAYOUT)
        self._connection.send_command(command, *args, **options)


def test_of_two_that_come_first_at_once_one_writes_it(raw: Any) -> None:
    connection = raw.connection_pool.get_connection()
    look_at_layout(SlowConnection(connection, raw))
    raw.connection_pool.release(connection)
    assert LedgerLayout.read(raw.get(keys.VERSION)).written_by == "9.0.0"


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_server_that_wants_another_password_is_named_as_such(redis_server: RedisServer, password: str) -> None:
    url = f"redis://:{password}@{redis_server.host}:{redis_server.port}/0"
    settings = RedisSettings(url=SecretStr(url))
    refuse_newer_ledger(settings)  # whoever waits for it says so
    with closing(Ledger.connect(settings, JobsSettings())) as ledger:
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match="WARMLINE_REDIS_PASSWORD"):
                ledger.ping()


def test_a_newer_ledger_that_this_version_may_read_is_worked_with(
    ledger: Ledger, new_job: NewJob, raw: Any
) -> None:
    text = say(raw, layout=LAYOUT + 3, oldest_reader=LAYOUT, more_of_it={"a": 1})
    assert ledger.create(new_job())
    assert raw.get(keys.VERSION) == text


def test_a_ledger_that_is_too_new_is_left_alone(
    ledger: Ledger, feeder: Feeder, settings: Settings, new_job: NewJob, raw: Any
) -> None:
    text = say(raw, layout=LAYOUT + 1, oldest_reader=LAYOUT + 1)
    deliveries = DeliveryLedger.connect(settings.redis, settings.jobs)
    endpoint = Endpoint(id="0a1b2c3d", url="https://example.com")
    for write in (
        lambda: ledger.create(new_job()),
        ledger.lose_expired,
        feeder.step,
        lambda: deliveries.begin("token", settings.webhooks, [endpoint]),
        lambda: refuse_newer_ledger(settings.redis),
    ):
        for _ in range(2):  # and it does not forget it
            with pytest.raises(LedgerTooNew, match=r"newer Warmline \(9.0.0, layout 2\).*upgrade") as caught:
                write()
            assert isinstance(caught.value, LedgerUnavailable)
    assert raw.keys() == [keys.VERSION]
    assert raw.get(keys.VERSION) == text
    # Once it may be read, all goes on without a restart
    say(raw, layout=LAYOUT + 1, oldest_reader=LAYOUT)
    assert ledger.create(new_job())
    assert feeder.step() == 1
    deliveries.close()


@pytest.mark.parametrize("text", ["", "2", "[]", '{"layout": 1}', '{"layout": 0, "oldest_reader": 0}'])
def test_a_key_that_says_something_else_is_not_trusted(ledger: Ledger, raw: Any, text: str) -> None:
    raw.set(keys.VERSION, text)
    with pytest.raises(LedgerTooNew, match="not as this Warmline"):
        ledger.ping()


def test_a_redis_that_is_away_is_no_reason_to_end(settings: Settings) -> None:
    refuse_newer_ledger(settings.redis.model_copy(update={"url": SecretStr("redis://127.0.0.1:1/0")}))
