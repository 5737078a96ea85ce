"""What libraries print goes into the log: stdout is for a command's own output."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import structlog

log = structlog.get_logger()


@contextlib.contextmanager
def printed_to_log(action: str) -> Iterator[None]:
    """Catches what is printed on stdout meanwhile and logs it, at debug level, as `action`."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        if text := printed.getvalue().strip():
            log.debug(action, text=text)
