"""A worker's child whose desk scores nothing; claim, lease, publication and the job's end are as in production."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from functools import cache, cached_property

from config.settings import AnalysisSettings
from warmline.calls.report import (
    STANDARD_LABELS,
    ChannelLevel,
    ModelProvenance,
    Provenance,
    Report,
    ReportSource,
    Span,
)
from warmline.calls.sides import RawWindow, Side, describe_sides
from warmline.jobs.records import JobState, Options
from warmline.objects.store import ObjectFacts
from workers.lease import Lease
from workers.lifecycle import WarmChild
from workers.publishing import Publisher
from workers.scoring import Desk, Scored

WINDOWS = 6
SCORES = {label: round(1 / len(STANDARD_LABELS), 7) for label in STANDARD_LABELS}


class IdleDesk(Desk):
    """Makes a report out of nothing."""

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
    made = _made_report()
    return made.model_copy(
        update={
            "job_id": job_id,
            "source": made.source.model_copy(update={"uri": uri}),
            "provenance": made.provenance.model_copy(update={"analysed_at": datetime.now(UTC)}),
        }
    )


@cache
def _made_report() -> Report:
    windows = [(4500 * place, 4500 * place + 4000) for place in range(WINDOWS)]
    side = Side(
        index=0,
        role="mono",
        speech=tuple(Span(start_ms=start, end_ms=end) for start, end in windows),
        windows=tuple(
            RawWindow(start_ms=start, end_ms=end, loudness_dbfs=-23.0, scores=SCORES) for start, end in windows
        ),
        level=ChannelLevel(speech_dbfs=-23.0, noise_dbfs=-60.0, peak_dbfs=-6.0, clipped_share=0.0),
    )
    described = describe_sides([side], duration_ms=30_000, recorded_channels=1, settings=AnalysisSettings())
    return Report(
        job_id=None,
        source=ReportSource(
            uri="", size_bytes=1, container="WAV", codec="PCM_16", sample_rate_hz=8000, channels=1,
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
        channels=described.channels,
        conversation=described.conversation,
        flags=described.flags,
    )  # fmt: skip
