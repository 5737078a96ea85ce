"""What a call's own metadata says of it: which side is whose, and what of it is no conversation.

Many telephone systems know that and write it beside the recording. A job whose metadata has `roles` or `exclude`
is analysed accordingly: they are this very call's, and so more specific than the job's options.

    roles    customer, agent            the channels' roles in order; instead of the options'
    exclude  0-12.5, 1:30-2:00          ranges in seconds, m:ss or h:mm:ss; added to the options'

A slip in them must not cost a call its report, and must not pass unseen: what cannot be read is left aside, and
`unreadable` says so, for the log and for a flag of the report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from warmline.jobs.errors import InvalidRequest
from warmline.jobs.records import ExcludedRange, Options

ROLES: Final = "roles"
EXCLUDE: Final = "exclude"
MAX_ROLES: Final = 16  # as of `Options`
MAX_RANGES: Final = 1000  # as of `Options`
MAX_SECONDS: Final = 1e6  # as of `ExcludedRange`

_ROLE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_CLOCK = re.compile(r"(?:([0-9]{1,3}):)??(?:([0-9]{1,5}):)?([0-9]{1,7}(?:\.[0-9]{0,9})?)")
_DASH = re.compile("[-\u2013]")  # word processors make the longer one of it
_SHOWN_CHARACTERS = 40  # of what cannot be read: enough to find it


def effective_options(options: Options, metadata: Mapping[str, str]) -> Options:
    """The options as this call's metadata completes them; never raises. No excluded ranges overlap.

    They are for the analysis alone. The report's key and its provenance are the job's own options': whoever wants
    a second report of a call, with other roles, asks for them by options.
    """
    roles, _ = _roles(metadata.get(ROLES, ""))
    found, _ = _ranges(metadata.get(EXCLUDE, ""))
    ranges = merged((*options.exclude, *found))
    if len(ranges) > MAX_RANGES:
        ranges = merged(options.exclude)
    return options.model_copy(update={"roles": roles or options.roles, "exclude": ranges})


def unreadable(options: Options, metadata: Mapping[str, str]) -> tuple[str, ...]:
    """What of the metadata `effective_options` left aside, a sentence each; none where all is well."""
    _, wrong_roles = _roles(metadata.get(ROLES, ""))
    found, wrong_ranges = _ranges(metadata.get(EXCLUDE, ""))
    sentences = [*wrong_roles, *wrong_ranges]
    if len(merged((*options.exclude, *found))) > MAX_RANGES:
        sentences.append(f"metadata exclude: with the options' there are more than {MAX_RANGES:,} ranges")
    return tuple(sentences)


def parse_ranges(text: str) -> tuple[ExcludedRange, ...]:
    """Ranges as a person writes them, in order and merged: `0-12.5, 1:30-2:00`. Raises InvalidRequest."""
    found, wrong = _ranges(text)
    if wrong:
        raise InvalidRequest(wrong[0].removeprefix("metadata "))
    return merged(found)


def merged(ranges: Iterable[ExcludedRange]) -> tuple[ExcludedRange, ...]:
    """The same time in as few ranges as it takes: in order, none overlapping or touching."""
    kept: list[ExcludedRange] = []
    for each in sorted(ranges, key=lambda found: (found.start_seconds, found.end_seconds)):
        if kept and each.start_seconds <= kept[-1].end_seconds:
            if each.end_seconds > kept[-1].end_seconds:
                start = kept.pop().start_seconds
                kept.append(ExcludedRange(start_seconds=start, end_seconds=each.end_seconds))
        else:
            kept.append(each)
    return tuple(kept)


def _roles(text: str) -> tuple[tuple[str, ...], list[str]]:
    """All of them or none: with one left out the others would slip to the wrong channels."""
    if not text.strip():
        return (), []
    roles = tuple(part.strip().lower() for part in text.split(","))
    if len(roles) > MAX_ROLES:
        return (), [f"metadata roles: {len(roles)} roles, and a call has at most {MAX_ROLES} channels"]
    for role in roles:
        if not _ROLE.fullmatch(role):
            return (), [
                f"metadata roles: {_shown(role)} is no role; it has a small letter and then up to 31 small "
                "letters, digits and _"
            ]
    return roles, []


def _ranges(text: str) -> tuple[list[ExcludedRange], list[str]]:
    """What can be read and, in a sentence, what cannot."""
    found: list[ExcludedRange] = []
    wrong: list[str] = []
    for part in re.split(r"[,;]", text):
        if not part.strip():
            continue
        edges = [_seconds(edge) for edge in _DASH.split(part)]
        if len(edges) != 2 or edges[0] is None or edges[1] is None:
            wrong.append(f"metadata exclude: {_shown(part)} is no range; write 0-12.5 or 1:30-2:00")
        elif not edges[0] < edges[1] <= MAX_SECONDS:
            wrong.append(f"metadata exclude: {_shown(part)} does not end after its start, or lies beyond any call")
        else:
            found.append(ExcludedRange(start_seconds=edges[0], end_seconds=edges[1]))
    return found, wrong


def _seconds(text: str) -> float | None:
    """12.5, 1:30 or 1:02:30.5; None for anything else."""
    read = _CLOCK.fullmatch(text.strip())
    if read is None:
        return None
    hours, minutes, seconds = int(read[1] or 0), int(read[2] or 0), float(read[3])
    if (read[2] and seconds >= 60) or (read[1] and minutes >= 60):
        return None
    return hours * 3600 + minutes * 60 + seconds


def _shown(text: str) -> str:
    """A stranger's text for a log: short, and with nothing in it that acts on a terminal."""
    return repr(text.strip()[:_SHOWN_CHARACTERS])
