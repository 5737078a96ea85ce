"""A report's facts for a person in a hurry: who spoke how much, the longest silence, who cut in, what stands out.

A line each, and only where there is something to say; what a report holds in full is in its JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from warmline.calls.report import CategoryMatch, ChannelReport, Conversation, Flag, Report

SHOWN: Final = 4  # of what there may be many of; the rest is counted
CHANGED: Final = 0.1  # a score that moved by less is not worth a line
FLAGS: Final[dict[Flag, str]] = {
    "no_speech": "nobody speaks",
    "truncated": "the file ends before its audio does, or parts of it cannot be decoded",
    "mono": "one channel, and all who speak are in it",
    "one_sided": "nearly all speech is on one side; is the other one recorded?",
    "low_confidence": "in a channel no emotion stands out",
    "clipping": "recorded too loud: peaks are cut off",
    "metadata_unreadable": "the call's metadata give roles or ranges in a way that cannot be read",
}


MAX_CHARACTERS = 2000  # rich takes the square of a word's length to fold it


def facts_table(report: Report) -> Table:
    """The facts, a line each; a long one goes on below itself."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    before = None
    for name, value in _facts(report):
        table.add_row(f"  {name if name != before else ''}", Text(value[:MAX_CHARACTERS]))
        before = name
    return table


def clock(milliseconds: int) -> str:
    """m:ss.t, as a player shows it."""
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}:{rest // 100 / 10:04.1f}"


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    if report.conversation:
        yield from _of_the_conversation(report.conversation, report.duration_ms)
    talk = [f"{each.role} {each.talk_share:.0%}" for each in report.channels if each.talk_share is not None]
    if len(talk) > 1:
        yield "talk", ", ".join(talk)
    if loudness := list(filter(None, map(_loudness, report.channels))):
        yield "loudness", ", ".join(loudness)
    for each in report.channels:
        if change := _change(each):
            yield "change", f"{each.role}: {change} from first to last quarter"
    for match in report.categories.matches if report.categories else ():
        yield "category", _category(match)
    if report.speakers:
        confidence = report.speakers.confidence
        certain = "without speech to tell by" if confidence is None else f"confidence {confidence:.2f}"
        share = report.speakers.uncertain_share
        yield "speakers", f"split by voice, {certain}" + (f", {share:.0%} uncertain" if share else "")
    elif report.provenance.options.split_speakers:
        yield "speakers", "not split: each has a channel already"
    for flag in report.flags:
        yield "note", FLAGS[flag]


def _of_the_conversation(conversation: Conversation, duration_ms: int) -> Iterator[tuple[str, str]]:
    parts = conversation.breakdown
    if duration_ms:
        shares = [
            (parts.talk_ms, "one speaks"), (parts.overlap_ms, "both speak"), (parts.silence_ms, "nobody speaks"),
            (parts.excluded_ms, "left out"),
        ]  # fmt: skip
        said = [f"{words} {milliseconds / duration_ms:.0%}" for milliseconds, words in shares if milliseconds]
        yield "time", ", ".join(said)
    if conversation.longest_silences:
        longest = conversation.longest_silences[0]
        yield "silence", f"the longest is {longest.duration_ms / 1000:.1f} s, at {clock(longest.start_ms)}"
    if conversation.interruptions:
        for each in conversation.interruptions[:SHOWN]:
            seconds = each.overlap_ms / 1000
            yield "cutting in", f"{each.by} interrupts {each.of} at {clock(each.start_ms)}, for {seconds:.1f} s"
        if (more := len(conversation.interruptions) - SHOWN) > 0:
            yield "cutting in", f"and {more} more"


def _loudness(channel: ChannelReport) -> str:
    """Empty where there is nothing to measure."""
    level = channel.level
    if level is None or level.speech_dbfs is None:
        return ""
    noise = "" if level.noise_dbfs is None else f" (noise {level.noise_dbfs:.0f})"
    return f"{channel.role} {level.speech_dbfs:.0f} dBFS{noise}"


def _change(channel: ChannelReport) -> str:
    """The one or two labels whose scores moved most; empty where none did."""
    moved = sorted(channel.summary.change.items(), key=lambda item: -abs(item[1]))[:2]
    return ", ".join(f"{label} {by:+.2f}" for label, by in moved if abs(by) >= CHANGED)


def _category(match: CategoryMatch) -> str:
    ranges = [
        f"{f'{each.role} ' if each.role else ''}{clock(each.start_ms)} to {clock(each.end_ms)}"
        for each in match.ranges
    ]
    return f"{match.category}: {_listed(ranges)}" if ranges else match.category


def _listed(items: Sequence[str]) -> str:
    more = f", and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
