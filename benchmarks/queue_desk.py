"""A worker's child whose desk scores nothing; claim, lease, publication and the job's end are as in production."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from functools import cached_property

from warmline.calls.report import (
    ChannelReport,
    ChannelSummary,
    ModelProvenance,
    Provenance,
    Report,
    ReportSource,
    ScoredWindow,
)
from warmline.jobs.records import JobState, Options
from warmline.objects.store import ObjectFacts
from workers.lease import Lease
from workers.lifecycle import WarmChild
from workers.publishing import Publisher
from workers.scoring import Desk, Scored

WINDOWS = 7  # of a report of some 1.5 kB
SCORES = {"angry": 0.1, "happy": 0.2, "neutral": 0.6, "sad": 0.1}


class IdleDesk(Desk):
    """Makes a report of 1.5 kB out of nothing."""

    def _score(self, state: JobState, lease: Lease) -> Scored:
        job = state.job
        facts = ObjectFacts(etag=job.id, version_id=None, size_bytes=1, last_modified=job.created_at)
        publisher = Publisher(self.store, self.settings, job, facts, "none")
        lease.check()
        report = some_report(job.id, job.source.uri)
        return Scored(location=publisher.location, body=publisher.publish(report, lease), report=report)


class IdleChild(WarmChild):
    """A warm child, model and all, that works at an idle desk."""

    def desk(self) -> Desk:
        """The same desk with everything it has, save that it scores nothing."""
        return self._idle

    @cached_property
    def _idle(self) -> IdleDesk:
        real = super().desk()
        return IdleDesk(**{field.name: getattr(real, field.name) for field in dataclasses.fields(real)})


def some_report(job_id: str, uri: str) -> Report:
    """As the analysis of a call of half a minute leaves it."""
    return Report(
        job_id=job_id,
        source=ReportSource(
            uri=uri, size_bytes=1, container="WAV", codec="PCM_16", sample_rate_hz=8000, channels=1,
            duration_seconds=30.0,
        ),
        provenance=Provenance(
            warmline_version="0",
            model=ModelProvenance(
                name="none", hash="0" * 64, mini=True, engine="none", device="cpu", precision="fp32"
            ),
            options=Options(),
            stage_seconds={"fetch": 0.0, "decode": 0.0, "score": 0.0},
            rtfx=1.0,
            analysed_at=datetime.now(UTC),
        ),
        channels=(
            ChannelReport(
                index=0,
                role="mono",
                speech_seconds=25.0,
                summary=ChannelSummary(top="neutral", scores=SCORES),
                windows=tuple(
                    ScoredWindow(start_ms=5000 * n, end_ms=5000 * n + 5000, top="neutral", scores=SCORES)
                    for n in range(WINDOWS)
                ),
            ),
        ),
    )  # fmt: skip
