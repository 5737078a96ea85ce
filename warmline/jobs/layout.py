"""Which layout of the ledger a Redis has, and whether this version of Warmline may work with it.

Two numbers are in one key: the layout, and the oldest one whose code may still read and write here. So a version
that only adds fields raises neither, and one that changes what is there already locks the older ones out, instead
of having them misread it. docs/upgrades.md says what counts as which.

Each new connection looks, and the first one that ever comes writes the key: so a Redis that is replaced, restored
or upgraded while a process runs is looked at, too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from pydantic import Field, ValidationError

from warmline.jobs import keys
from warmline.jobs.errors import LedgerTooNew
from warmline.jobs.records import Record

LAYOUT: Final = 1  # what this version writes
OLDEST_READER: Final = 1  # the oldest layout whose code may work with that

TOO_NEW_EXIT: Final = 3  # exit code of a process that finds such a ledger when it starts


class LedgerLayout(Record):
    """What the key says."""

    layout: int = Field(ge=1)
    oldest_reader: int = Field(ge=1, description="code that knows an older layout than this must stay away")
    written_by: str = Field(description="the version of Warmline that made the ledger, or changed its layout")
    written_at: datetime


def ours() -> LedgerLayout:
    """What this version writes into a Redis that has no such key: a new one, or one that 0.1 wrote."""
    return LedgerLayout(
        layout=LAYOUT,
        oldest_reader=OLDEST_READER,
        written_by=version("warmline"),
        written_at=datetime.now(UTC).replace(microsecond=0),
    )


def refuse_newer(text: str) -> LedgerLayout:
    """What the key's JSON says. Raises LedgerTooNew where this version must not work with such a ledger."""
    try:
        found = LedgerLayout.read(text)
    except ValidationError:
        raise LedgerTooNew(
            f"The key {keys.VERSION} in Redis is not as this Warmline ({version('warmline')}) knows it: a newer "
            "one wrote it, or something else; upgrade Warmline on this machine, or check WARMLINE_REDIS_URL."
        ) from None
    if found.oldest_reader > LAYOUT:
        raise LedgerTooNew(
            f"This Redis is written by a newer Warmline ({found.written_by}, layout {found.layout}) than this one "
            f"({version('warmline')}, layout {LAYOUT}); upgrade Warmline on this machine first."
        )
    return found


def look_at_layout(connection: Any) -> None:
    """For redis-py's `redis_connect_func`: greets the server as usual, then looks at the ledger's layout.

    Raises LedgerTooNew, and what redis-py raises.
    """
    # As redis-py's own greeting, but without its check of health: a server that wants a password fails that, which
    # makes a new connection, which is greeted by this again, and so on.
    connection.on_connect_check_health(check_health=False)
    connection.send_command("GET", keys.VERSION, check_health=False)
    text = connection.read_response()
    if text is None:
        # Of several that come first at once one writes it.
        connection.send_command("SET", keys.VERSION, ours().model_dump_json(), "NX", check_health=False)
        connection.read_response()
        return
    try:
        refuse_newer(text if isinstance(text, str) else text.decode())
    except LedgerTooNew:
        connection.disconnect()  # redis-py does so for its own errors only
        raise
