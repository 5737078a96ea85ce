"""The header Idempotency-Key: a client that got no answer sends its request again, and makes nothing twice.

As the draft of the IETF's httpapi group has it, and as clients of other APIs expect it: optional, any text of
theirs; the same answer again says so in a header; another request under the same key is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response

from api.bodies import Body
from api.problems import IdempotencyKeyInvalid
from warmline.jobs.errors import IdempotencyKeyInUse, IdempotencyKeyReused, WarmlineError
from warmline.jobs.idempotency import Made, Once

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"

REFUSALS: Final[tuple[type[WarmlineError], ...]] = (
    IdempotencyKeyInvalid,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
)

_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")


@dataclass(frozen=True)
class Key:
    """What a client sent, if it did."""

    value: str | None
    path: str

    def once(self, body: Body) -> Once | None:
        """The request that is to be done once; None without a key: as often as it comes."""
        return None if self.value is None else Once.of(self.value, self.path, body.content)


async def _key(request: Request) -> Key:
    """Raises IdempotencyKeyInvalid."""
    given = request.headers.getlist(HEADER)
    if not given:
        return Key(None, request.url.path)
    value = given[0].strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]  # the draft's spelling, a string in quotes, means the same as the bare one
    if len(given) > 1 or not _KEY.fullmatch(value):
        raise IdempotencyKeyInvalid
    return Key(value, request.url.path)


SentKey = Annotated[Key, Depends(_key)]


def say_if_replayed(response: Response, made: Made) -> None:
    """Tells a client that this is the answer to a request that came before."""
    if made.replayed:
        response.headers[REPLAYED] = "true"


def takes_key(operation: dict[str, Any]) -> dict[str, Any]:
    """A route's `openapi_extra`, with the header."""
    parameter = {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": "a name of yours for this request: sent again under it, it makes nothing anew and gets the "
        "same answer, for WARMLINE_JOBS_IDEMPOTENCY_SECONDS; a new one for each request, best a UUID",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x20-\x7e]+$"},
        "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
    }
    return operation | {"parameters": [parameter]}


def accepted(what: str) -> dict[int | str, dict[str, Any]]:
    """A route's 202 in `responses`: its headers."""
    text = {"type": "string"}
    return {
        202: {
            "headers": {
                "Location": {"description": f"the {what}'s address", "schema": text},
                REPLAYED: {"description": "`true`: an earlier request had made it", "schema": text},
            }
        }
    }
