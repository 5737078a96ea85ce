"""What conditions ask of a report, worked out once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

from warmline.calls.report import Interruption, Report, Scores
from warmline.calls.smoothing import smooth
from warmline.calls.stretches import Covered, Stretch, common, join

DECIMALS = 9  # sums of scores are rounded to so many: 0.1 + 0.2 is 0.3

Step = tuple[int, int, float]  # from, to, and what holds there


class CallFacts:
    """Of one report. None stands for what it does not tell."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.duration_ms = report.duration_ms
        self._smoothed: dict[tuple[int, float], Sequence[Scores]] = {}
        self._steps: dict[tuple[int, tuple[str, ...], float], Sequence[Step] | None] = {}

    def role(self, channel: int) -> str:
        """Of the channel at this place."""
        return self.report.channels[channel].role

    def channels(self, roles: Sequence[str]) -> list[int]:
        """The places of the channels that have one of these roles; of all where none is asked for."""
        return [place for place, channel in enumerate(self.report.channels) if not roles or channel.role in roles]

    def emotion(self, channel: int, labels: tuple[str, ...], smooth_seconds: float) -> Sequence[Step] | None:
        """The sum of the labels' scores over time; None where the model does not know one of them."""
        key = (channel, labels, smooth_seconds)
        if key not in self._steps:
            windows = self.report.channels[channel].windows
            scores = self._scores(channel, smooth_seconds)
            try:
                sums = [sum([row[label] for label in labels]) for row in scores]
            except KeyError:
                self._steps[key] = None
            else:
                self._steps[key] = _mean_over_time(
                    [(window.start_ms, window.end_ms, value) for window, value in zip(windows, sums, strict=True)]
                )
        return self._steps[key]

    def loudness(self, channel: int) -> Sequence[Step] | None:
        """The windows' levels in dBFS over time; None where there are windows and no level is known."""
        windows = self.report.channels[channel].windows
        steps = [
            (window.start_ms, window.end_ms, window.loudness_dbfs)
            for window in windows
            if window.loudness_dbfs is not None
        ]
        return None if windows and not steps else _mean_over_time(steps)

    @cached_property
    def interruptions(self) -> Sequence[Interruption] | None:
        """In order; None where fewer than two sides were told apart."""
        conversation = self.report.conversation
        return None if conversation is None or len(self.report.channels) < 2 else conversation.interruptions

    @cached_property
    def silences(self) -> Sequence[Stretch] | None:
        """Where nobody speaks, what is left out of the call left out; None where no speech was looked for."""
        if self.report.conversation is None:
            return None
        taken = join([*(stretch for spoken in self._speech for stretch in spoken), *self._excluded])
        edges = [0, *(edge for stretch in taken for edge in stretch), self.duration_ms]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]

    @cached_property
    def overlaps(self) -> Sequence[Stretch] | None:
        """Where two or more speak at once; None where no speech was looked for."""
        if self.report.conversation is None:
            return None
        found: list[Stretch] = []
        for place, spoken in enumerate(self._speech):
            for other in self._speech[:place]:
                found += common(spoken, other)
        return join(found)

    def talk_ms(self, channel: int, part: Stretch) -> int | None:
        """How long a side speaks in a part of the call; None where no speech was looked for."""
        if self.report.conversation is None:
            return None
        return Covered(self._speech[channel]).of(part)

    def length_ms(self, part: Stretch) -> int:
        """How long a part of the call is without what is left out of the call."""
        return part[1] - part[0] - Covered(self._excluded).of(part)

    @cached_property
    def _excluded(self) -> Sequence[Stretch]:
        conversation = self.report.conversation
        spans = conversation.excluded if conversation is not None else ()
        return join((span.start_ms, span.end_ms) for span in spans)

    @cached_property
    def _speech(self) -> Sequence[Sequence[Stretch]]:
        spoken = [
            join((span.start_ms, span.end_ms) for span in channel.speech) for channel in self.report.channels
        ]
        if not self._excluded:
            return spoken
        edges = [0, *(edge for stretch in self._excluded for edge in stretch), self.duration_ms]
        heard = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
        return [common(stretches, heard) for stretches in spoken]

    def _scores(self, channel: int, smooth_seconds: float) -> Sequence[Scores]:
        windows = self.report.channels[channel].windows
        if not smooth_seconds:
            return [window.scores for window in windows]
        key = (channel, smooth_seconds)
        if key not in self._smoothed:
            self._smoothed[key] = smooth(windows, smooth_seconds)
        return self._smoothed[key]


def _mean_over_time(steps: Sequence[Step]) -> Sequence[Step]:
    """The mean of the steps that cover each moment: each counts once, however many windows it lies in."""
    if all(earlier[1] <= later[0] for earlier, later in pairwise(steps)):
        return [(start_ms, end_ms, round(value, DECIMALS)) for start_ms, end_ms, value in steps]
    edges = sorted(
        edge for start_ms, end_ms, value in steps for edge in ((start_ms, 1, value), (end_ms, -1, -value))
    )
    found: list[Step] = []
    at_ms, count, total = 0, 0, 0.0
    for edge_ms, step, value in edges:
        if count and edge_ms > at_ms:
            found.append((at_ms, edge_ms, round(total / count, DECIMALS)))
        at_ms, count, total = edge_ms, count + step, total + value
        if not count:
            total = 0.0
    return found
