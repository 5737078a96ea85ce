"""A report without what makes it long: for those who look at thousands and need their summaries alone.

A six-hour call's report by sliding windows takes a hundred megabytes once it is read; in brief some kilobytes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from warmline.calls.report import Categories, ChannelReport, ChannelSummary, Flag, Provenance, Report, ReportSource


class _Brief(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class BriefChannel(_Brief):
    """A channel's role and summary."""

    role: str
    summary: ChannelSummary


class BriefReport(_Brief):
    """Read from a report's JSON: what is not here is skipped while it is parsed."""

    version: Literal["1"]

    source: ReportSource
    provenance: Provenance
    channels: tuple[BriefChannel, ...]
    flags: tuple[Flag, ...] = ()
    categories: Categories | None = None

    @property
    def duration_ms(self) -> int:
        """The call's length."""
        return round(self.source.duration_seconds * 1000)


AnyReport = Report | BriefReport
AnyChannel = ChannelReport | BriefChannel
