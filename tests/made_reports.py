"""Reports of made calls, as data: their windows and their speech are written down, so every figure has a truth.

    make_report(
        made_side("agent", speech=[(0, 4000)], windows=[(0, 4000, {"neutral": 0.8})]),
        made_side("customer", speech=[(5000, 9000)], windows=[(5000, 9000, {"angry": 0.7})]),
        duration_ms=10_000,
    )

The figures are made by the analysis' own functions; nothing here stands for a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from config.settings import AnalysisSettings
from warmline.calls.report import (
    STANDARD_LABELS,
    ChannelLevel,
    ModelProvenance,
    Provenance,
    Report,
    ReportSource,
    Scores,
    Span,
)
from warmline.calls.sides import RawWindow, Side, describe_sides
from warmline.jobs.records import Options

Window = tuple[int, int, Mapping[str, float]]  # start and end in milliseconds, scores by label


def made_scores(given: Mapping[str, float]) -> Scores:
    """All nine scores: as given, and the rest shared out evenly among the others, so that they sum to 1."""
    others = [label for label in STANDARD_LABELS if label not in given]
    rest = 1.0 - sum(given.values())
    assert rest >= -1e-9, given
    return {label: given.get(label, rest / len(others) if others else 0.0) for label in STANDARD_LABELS}


def made_side(
    role: str,
    *,
    windows: Iterable[Window],
    speech: Iterable[tuple[int, int]] | None = None,
    index: int | None = None,
    loudness_dbfs: float | None = -23.0,
    clipped_share: float = 0.0,
    **more: Any,
) -> Side:
    """One side. Without `speech` it speaks wherever it has windows; without `index` it is the next channel."""
    raw = tuple(
        RawWindow(start_ms=start, end_ms=end, loudness_dbfs=loudness_dbfs, scores=made_scores(scores))
        for start, end, scores in windows
    )
    spans = [(window.start_ms, window.end_ms) for window in raw] if speech is None else list(speech)
    return Side(
        index=-1 if index is None else index,
        role=role,
        speech=tuple(Span(start_ms=start, end_ms=end) for start, end in spans),
        windows=raw,
        level=ChannelLevel(
            speech_dbfs=loudness_dbfs, noise_dbfs=-60.0, peak_dbfs=-6.0, clipped_share=clipped_share
        ),
        **more,
    )


def make_report(
    *sides: Side,
    duration_ms: int,
    excluded: Sequence[tuple[int, int]] = (),
    metadata: Mapping[str, str] | None = None,
    key: str = "2026/11/call-001.wav",
    job_id: str | None = "0" * 32,
    batch_id: str | None = None,
    options: Options | None = None,
    analysed_at: datetime = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC),
    **more: Any,
) -> Report:
    """A report of a call with these sides. `more` are further fields of the report."""
    numbered = [
        side if side.index >= 0 else Side(**{**vars(side), "index": place}) for place, side in enumerate(sides)
    ]
    channels = len({side.index for side in numbered}) or 1
    described = describe_sides(
        numbered,
        duration_ms=duration_ms,
        excluded=tuple(Span(start_ms=start, end_ms=end) for start, end in excluded),
        recorded_channels=channels,
        settings=AnalysisSettings(),
    )
    fields: dict[str, Any] = {
        "job_id": job_id,
        "batch_id": batch_id,
        "metadata": dict(metadata or {}),
        "source": ReportSource(
            uri=f"s3://calls/{key}",
            bucket="calls",
            key=key,
            etag="9c760f2e649b7c16632f458de4c1d951",
            size_bytes=duration_ms * 16 + 44,
            container="WAV",
            codec="ULAW",
            sample_rate_hz=8000,
            channels=channels,
            duration_seconds=duration_ms / 1000,
        ),
        "provenance": Provenance(
            warmline_version="0.1.0",
            model=ModelProvenance(
                name="mini", hash="ab" * 32, mini=True, engine="torch", device="cpu", precision="fp32"
            ),
            options=options or Options(roles=tuple(side.role for side in sides)),
            stage_seconds={"decode": 0.01, "speech": 0.1, "score": 1.0},
            rtfx=duration_ms / 1000,
            analysed_at=analysed_at,
        ),
        "channels": described.channels,
        "conversation": described.conversation,
        "flags": described.flags,
    }
    return Report(**(fields | more))
