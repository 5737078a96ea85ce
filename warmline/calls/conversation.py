"""The call's sides together: who speaks, who waits, who cuts in. Made of stretches of speech alone.

The words are Heldner and Edlund's (Pauses, gaps and overlaps in conversations, Journal of Phonetics 38, 2010): an
overlap between speakers hands the turn over, one within a speaker's turn does not.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from config.settings import AnalysisSettings
from warmline.calls.report import Breakdown, Conversation, Interruption, Span
from warmline.calls.spans import union, without

# A pause that does not end a turn: with a voice activity detector's own 0.2 s of silence, shorter ones are breaths
# and the closures of plosives.
TURN_PAUSE_MS = 500
# Who goes on for so long beside another one talks over them, whoever stops first. What is shorter and ends before
# the other one does is a listener's word ("mhm", "I see": Yngve, On getting a word in edgewise, 1970).
TALKED_OVER_MS = 1000


def describe_conversation(
    speech: Sequence[Sequence[Span]],
    roles: Sequence[str],
    *,
    duration_ms: int,
    excluded: Sequence[Span] = (),
    settings: AnalysisSettings,
) -> Conversation:
    """Of each side's stretches of speech, in order, none overlapping, none longer than the call.

    `excluded` are in order and do not overlap; speech inside them does not count.
    """
    heard = [without(spans, excluded) for spans in speech]
    silences = _silences(heard, duration_ms, excluded)
    return Conversation(
        breakdown=_break_down(heard, duration_ms, excluded),
        longest_silences=tuple(
            heapq.nlargest(
                settings.longest_silences,
                (span for span in silences if span.duration_ms >= settings.silence_seconds * 1000),
                key=lambda span: (span.duration_ms, -span.start_ms),
            )
        ),
        interruptions=_interruptions(heard, roles, round(settings.interruption_seconds * 1000)),
        excluded=tuple(excluded),
    )


def _break_down(speech: Sequence[Sequence[Span]], duration_ms: int, excluded: Sequence[Span]) -> Breakdown:
    """A sweep over all edges: between two of them the number of speakers does not change."""
    edges = sorted(edge for spans in speech for span in spans for edge in ((span.start_ms, 1), (span.end_ms, -1)))
    by_speakers = [0, 0, 0]  # nobody, one, more
    at_ms = speakers = 0
    for edge_ms, step in edges:
        by_speakers[min(speakers, 2)] += edge_ms - at_ms
        at_ms, speakers = edge_ms, speakers + step
    by_speakers[0] += duration_ms - at_ms
    excluded_ms = sum(span.duration_ms for span in excluded)
    silence_ms, talk_ms, overlap_ms = by_speakers
    return Breakdown(
        talk_ms=talk_ms, overlap_ms=overlap_ms, silence_ms=silence_ms - excluded_ms, excluded_ms=excluded_ms
    )


def _silences(speech: Sequence[Sequence[Span]], duration_ms: int, excluded: Sequence[Span]) -> tuple[Span, ...]:
    taken = union((*(span for spans in speech for span in spans), *excluded))
    return without([Span(start_ms=0, end_ms=duration_ms)], taken)


def _interruptions(
    speech: Sequence[Sequence[Span]], roles: Sequence[str], least_ms: int
) -> tuple[Interruption, ...]:
    turns = [union(spans, gap_ms=TURN_PAUSE_MS) for spans in speech]
    found = [
        Interruption(
            start_ms=start_ms,
            end_ms=end_ms,
            overlap_ms=end_ms - start_ms,
            by=roles[by],
            by_channel=by,
            of=roles[of],
            of_channel=of,
        )
        for by, own in enumerate(turns)
        for of, other in enumerate(turns)
        if by != of
        for start_ms, end_ms in _cut_ins(own, other, least_ms)
    ]
    return tuple(sorted(found, key=lambda each: (each.start_ms, each.by_channel, each.of_channel)))


def _cut_ins(own: Sequence[Span], other: Sequence[Span], least_ms: int) -> list[tuple[int, int]]:
    """Where a turn of one's own begins inside a turn of the other's, and takes it or talks over it."""
    found = []
    place = 0
    for turn in own:
        while place < len(other) and other[place].end_ms <= turn.start_ms:
            place += 1
        if place == len(other):
            break
        theirs = other[place]
        if theirs.start_ms >= turn.start_ms:
            continue  # they began while we spoke, or at the same time
        end_ms = min(turn.end_ms, theirs.end_ms)
        takes_over = turn.end_ms >= theirs.end_ms
        if end_ms - turn.start_ms >= (least_ms if takes_over else max(least_ms, TALKED_OVER_MS)):
            found.append((turn.start_ms, end_ms))
    return found
