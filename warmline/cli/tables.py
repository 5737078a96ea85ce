"""How reports look in a terminal: a line a channel, with its emotions over time as a strip of letters.

The strip reads without colour: each emotion has its own letter, and capitals mark confident windows.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from warmline.calls.palette import CONFIDENT, letter_of, look_of
from warmline.calls.report import ChannelReport, Report, ScoredWindow
from warmline.cli.report_facts import MAX_CHARACTERS, clock, facts_table

STRIP_CELLS = 48
NARROW = 110  # columns; a narrower terminal gets a shorter strip and fewer columns
SILENCE = "·"


def strip(windows: Iterable[ScoredWindow], duration_seconds: float, cells: int = STRIP_CELLS) -> Text:
    """The windows of a channel as `cells` letters; a cell shows the window that covers most of it."""
    cell_ms = max(duration_seconds * 1000 / cells, 1e-9)
    best: list[tuple[float, ScoredWindow] | None] = [None] * cells
    for window in windows:
        first, last = int(window.start_ms / cell_ms), int(window.end_ms / cell_ms)
        for cell in range(max(first, 0), min(last, cells - 1) + 1):
            covered = min(window.end_ms, (cell + 1) * cell_ms) - max(window.start_ms, cell * cell_ms)
            held = best[cell]
            if covered > 0 and (held is None or covered > held[0]):
                best[cell] = (covered, window)
    line = Text(no_wrap=True)
    for held in best:
        line.append(SILENCE, style="dim") if held is None else line.append(*_letter(held[1]))
    return line


def _letter(window: ScoredWindow) -> tuple[str, str]:
    return letter_of(window.top, window.scores), look_of(window.top).colour


def legend(labels: Iterable[str]) -> Text:
    """What the letters mean."""
    line = Text("  ")
    for label in labels:
        look = look_of(label)
        line.append(look.letter, style=f"bold {look.colour}").append(f"={label}  ", style="dim")
    line.append(f"{SILENCE}=silence  ", style="dim")
    return line.append(f"(capital: score of {CONFIDENT:g} or more)", style="dim")


def calls_table(reports: Iterable[tuple[str, Report]], width: int) -> RenderableType:
    """A table of calls, given as (name, report): each channel's top label, mean score, speech and timeline.

    `width` is the terminal's, in columns: where it is narrow, the strip is shorter and lengths are left out.
    """
    narrow = width < NARROW
    cells = max(12, min(STRIP_CELLS, width - 58)) if narrow else STRIP_CELLS
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("call", no_wrap=True, max_width=22 if narrow else None)
    if not narrow:
        table.add_column("length", justify="right")
    table.add_column("channel", no_wrap=True)
    table.add_column("emotion", no_wrap=True)
    table.add_column("score", justify="right")
    if not narrow:
        table.add_column("speech", justify="right")
    table.add_column("from start to end", no_wrap=True)
    labels: dict[str, None] = {}
    minis = False
    for name, report in reports:
        minis = minis or report.provenance.model.mini
        for channel in report.channels:
            first = channel is report.channels[0]
            duration = report.source.duration_seconds
            length = [] if narrow else [f"{duration:.1f} s" if first else ""]
            speech = [] if narrow else [f"{channel.speech_seconds:.1f} s"]
            line = strip(channel.windows, duration, cells)
            role = Text(channel.role[:MAX_CHARACTERS])
            table.add_row(Text(name if first else ""), *length, role, *_verdict(channel), *speech, line)
            for window in channel.windows:
                labels.setdefault(window.top)
    parts: list[RenderableType] = [table, Text(), legend(sorted(labels))]
    if minis:
        parts.append(Text("  by the bundled mini model: for trying Warmline out, not for decisions", "yellow"))
    return Group(*parts)


def _verdict(channel: ChannelReport) -> tuple[Text, str]:
    """The channel's top label and its mean score."""
    top = channel.summary.top
    if top is None:
        return Text("no speech", style="dim"), ""
    return Text(top, style=look_of(top).colour), f"{channel.summary.scores.get(top, 0.0):.2f}"


def print_report(console: Console, report: Report) -> None:
    """One report for a person: the call's channels, its facts, then every window with its three highest scores."""
    console.print(calls_table([(report.source.uri.rpartition("/")[2], report)], console.width))
    console.print()
    console.print(facts_table(report))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), title_justify="left")
    for heading in ("channel", "from", "to", "emotion", "then"):
        table.add_column(heading)
    for channel in report.channels:
        for window in channel.windows:
            ranked = sorted(window.scores.items(), key=lambda item: -item[1])[:3] or [(window.top, 0.0)]
            table.add_row(
                Text(channel.role[:MAX_CHARACTERS]),
                clock(window.start_ms),
                clock(window.end_ms),
                Text(f"{ranked[0][0]} {ranked[0][1]:.2f}", style=look_of(ranked[0][0]).colour),
                Text("  ".join(f"{label} {score:.2f}" for label, score in ranked[1:])),
            )
    if table.row_count:
        console.print()
        console.print(table)
    model = report.provenance.model
    words = f"{model.name} by {model.engine} ({model.precision} on {model.device})"[:MAX_CHARACTERS]
    console.print(Text(f"\n  {words}, {report.provenance.rtfx:.1f} x real time", style="dim"))
