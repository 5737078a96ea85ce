"""Requests that may be sent twice and are to be done once: what the ledger remembers of an Idempotency-Key.

It is written by the script that enters the job or opens the batch: there is no moment at which one of the two is
there without the other. Only what was accepted is remembered; a request that was refused may be sent again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Self

from warmline.jobs import keys
from warmline.jobs.errors import IdempotencyKeyInUse, IdempotencyKeyReused

# A batch that is being written down says so this often at least, or another request with its key may begin.
BEGUN_SECONDS: Final = 20

_DIGITS: Final = 32  # 128 bits of a hash, in hex: short, and nobody meets them twice


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a request led to: the id of a job, or of a batch of `total` jobs."""

    id: str
    total: int = 1
    replayed: bool = False  # an earlier request with the same key had made it


@dataclass(frozen=True, kw_only=True)
class Once:
    """One request that its client named, so that sending it again makes nothing anew."""

    name: str  # a digest: of any length and spelling, a key takes the same room, and no log learns it
    fingerprint: str  # of what was asked

    @classmethod
    def of(cls, key: str, path: str, body: bytes) -> Self:
        """The request that was sent to `path` with this `body` under this `key`."""
        asked = hashlib.sha256(path.encode() + b"\0")
        asked.update(body)
        name = hashlib.sha256(key.encode())
        return cls(name=name.hexdigest()[:_DIGITS], fingerprint=asked.hexdigest()[:_DIGITS])

    def entry(self, made_id: str, total: int = 0) -> str:
        """What is remembered: the request, what it makes, of how many jobs; 0: not yet."""
        return f"{self.fingerprint} {made_id} {total}"

    def read(self, entry: str) -> Made:
        """What this request made when it came before.

        Raises IdempotencyKeyReused where that was another request, IdempotencyKeyInUse where it is not done yet.
        """
        fingerprint, made_id, total = entry.split(" ")
        if fingerprint != self.fingerprint:
            raise IdempotencyKeyReused
        if total == "0":
            raise IdempotencyKeyInUse
        return Made(id=made_id, total=int(total), replayed=True)


# ARGV: the request's name, what is remembered of it while it is being done, for how long in s.
# '': it may begin. Else what is remembered of the one that was before.
BEGIN = f"""
local known = redis.call('GET', '{keys.REQUEST}' .. ARGV[1])
if known and known ~= ARGV[2] then return known end
redis.call('SET', '{keys.REQUEST}' .. ARGV[1], ARGV[2], 'EX', ARGV[3])
return ''
"""

# ARGV: as of BEGIN; 0 s: it has ended without a result. 0: it is another request's by now.
GO_ON = f"""
if redis.call('GET', '{keys.REQUEST}' .. ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('EXPIRE', '{keys.REQUEST}' .. ARGV[1], ARGV[3])
"""
