"""The reports that Redis keeps: read one after another, and replaced where categories are worked out anew.

They are there until WARMLINE_JOBS_RETENTION_SECONDS are over, which a replacement does not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from warmline.jobs import keys
from warmline.jobs.connection import Connection, redis_answers
from warmline.jobs.records import ReportLocation

PAGE = 50  # reports that are read at once

# ARGV: job id, sha1 of the report that was read, the one to be put in its place. 0: another one is there, or none.
REPLACE = f"""
local key = '{keys.REPORT}' .. ARGV[1]
local there = redis.call('GET', key)
if not there or redis.sha1hex(there) ~= ARGV[2] then return 0 end
redis.call('SET', key, ARGV[3], 'KEEPTTL')
return 1
"""


@dataclass(frozen=True, kw_only=True)
class KeptReport:
    """A job's report in Redis."""

    job_id: str
    location: ReportLocation | None  # where the ledger says that it lies; None when that has expired
    body: bytes


class KeptReports(Connection):
    """All of them. Every method raises LedgerUnavailable when Redis does not answer as it should."""

    def read(self) -> Iterator[KeptReport]:
        """In no order; one that comes or goes meanwhile may be among them or not. PAGE at a time are held."""
        found = iter(self._redis.scan_iter(match=f"{keys.REPORT}*", count=500))
        while page := self._read_page(found):
            yield from page

    @redis_answers()
    def replace(self, job_id: str, *, old: bytes, new: bytes) -> bool:
        """Puts a report in place of the one that was read; False when that one is there no more."""
        digest = hashlib.sha1(old, usedforsecurity=False).hexdigest()
        return bool(self._run(REPLACE, job_id, digest, new.decode()))

    @redis_answers()
    def _read_page(self, found: Iterator[str]) -> list[KeptReport]:
        """The next ones; none at the end only."""
        while names := list(islice(found, PAGE)):
            ids = [name.removeprefix(keys.REPORT) for name in names]
            pipeline = self._redis.pipeline(transaction=False)
            for job_id in ids:
                pipeline.get(keys.report(job_id))
                pipeline.hget(keys.job(job_id), "report")
            answers = iter(pipeline.execute())
            page = [
                KeptReport(
                    job_id=job_id,
                    location=None if location is None else ReportLocation.read(location),
                    body=body.encode(),
                )
                for job_id, body, location in zip(ids, answers, answers, strict=True)
                if body is not None
            ]
            if page:
                return page
        return []
