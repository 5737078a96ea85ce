"""One finding of a check: how it is, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from config.settings import Settings

Verdict = Literal["ok", "warn", "fail"]


class Finding(BaseModel):
    """What one check found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    verdict: Verdict
    message: str
    mend: str = ""  # a sentence that says what to do; empty when it is ok


Check = Callable[[Settings], Iterator[Finding]]


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check=check, verdict="ok", message=message)


def warn(check: str, message: str, mend: str) -> Finding:
    """It works, or will until a certain day."""
    return Finding(check=check, verdict="warn", message=message, mend=mend)


def fail(check: str, message: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(check=check, verdict="fail", message=message, mend=mend)
