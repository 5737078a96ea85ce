"""Two voices told apart, from embeddings whose speakers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmline.calls.diarisation import Diarisation, Embeddings, tell_apart
from warmline.calls.report import Span

RNG = np.random.default_rng(11)
ONE, TWO = (voice / np.linalg.norm(voice) for voice in RNG.standard_normal((2, 64)))


def spans(*edges: tuple[int, int]) -> list[Span]:
    return [Span(start_ms=start, end_ms=end) for start, end in edges]


def clips_of(speech: Sequence[Span]) -> list[Span]:
    """A second and a half, each 750 ms on, and the end of each stretch."""
    return [
        Span(start_ms=start, end_ms=start + 1500)
        for span in speech
        for start in (*range(span.start_ms, span.end_ms - 1500, 750), span.end_ms - 1500)
    ]


def heard(clips: Sequence[Span], share_of_one: Callable[[Span], float], noise: float = 0.6) -> Embeddings:
    """As a voice model hears them: clips of both speakers lie in between, and each is a little off."""
    shares = np.array([share_of_one(clip) for clip in clips])[:, None]
    rng = np.random.default_rng(len(clips))
    rows = shares * ONE + (1 - shares) * TWO + noise * rng.standard_normal((len(clips), 64)) / 8
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def share_before(edge_ms: int) -> Callable[[Span], float]:
    """Speaker one until the edge, then speaker two."""
    return lambda clip: min(1.0, max(0.0, (edge_ms - clip.start_ms) / clip.duration_ms))


def speakers(found: Diarisation) -> list[tuple[int, int, int]]:
    """Turns: (start, end, speaker)."""
    turns: list[tuple[int, int, int]] = []
    for piece in found.pieces:
        if turns and turns[-1][2] == piece.speaker and turns[-1][1] == piece.start_ms:
            turns[-1] = (turns[-1][0], piece.end_ms, piece.speaker)
        else:
            turns.append((piece.start_ms, piece.end_ms, piece.speaker))
    return turns


def test_turns_go_to_their_speakers_and_who_speaks_first_is_the_first() -> None:
    speech = spans((1000, 7000), (7500, 12_000), (12_400, 20_000), (21_000, 27_000))
    clips = clips_of(speech)
    for ones in ({1000, 12_400}, {7500, 21_000}):  # whichever cluster is which
        own = [span for span in speech if span.start_ms in ones]
        rows = heard(clips, lambda c, own=own: float(any(s.start_ms <= c.start_ms < s.end_ms for s in own)))
        found = tell_apart(clips, rows, speech)
        assert speakers(found) == [(1000, 7000, 0), (7500, 12_000, 1), (12_400, 20_000, 0), (21_000, 27_000, 1)]
        assert found.confidence == 1.0
        assert all(piece.sure for piece in found.pieces)


def test_a_stretch_is_cut_where_the_speaker_changes_within_it() -> None:
    speech = spans((0, 20_000))
    clips = clips_of(speech)
    found = tell_apart(clips, heard(clips, share_before(11_000)), speech)
    (first, second) = speakers(found)
    assert (first[2], second[2]) == (0, 1)
    assert first[1] == pytest.approx(11_000, abs=500)
    # And the clips need not come in order
    order = np.random.default_rng(3).permutation(len(clips))
    rows = heard(clips, share_before(11_000))
    assert speakers(tell_apart([clips[place] for place in order], rows[order], speech)) == speakers(found)


def test_what_comes_later_counts_as_what_came_before() -> None:
    # Given a call, and the same one played backwards
    speech = spans((0, 9000), (9400, 20_000))
    clips = clips_of(speech)
    rows = heard(clips, share_before(12_000), noise=2.0)
    turned = [
        [Span(start_ms=20_000 - span.end_ms, end_ms=20_000 - span.start_ms) for span in reversed(given)]
        for given in (speech, clips)
    ]
    found = tell_apart(clips, rows, speech)
    backwards = tell_apart(turned[1], rows[::-1], turned[0])
    # Then each moment is as sure, and the change is where it was
    assert [piece.sure for piece in backwards.pieces] == [piece.sure for piece in reversed(found.pieces)]
    last = found.pieces[-1].speaker
    assert [piece.speaker == last for piece in reversed(found.pieces)] == [
        piece.speaker == 0 for piece in backwards.pieces
    ]
    assert 0 < sum(not piece.sure for piece in found.pieces) < len(found.pieces)


def test_a_word_that_sounds_like_the_other_is_no_turn() -> None:
    # Given a stretch of one speaker in which two clips sound a little more like the other one, who speaks later
    speech = spans((0, 15_000), (16_000, 30_000))
    clips = clips_of(speech)
    rows = heard(clips, lambda clip: float(clip.start_ms < 15_000))
    for place, clip in enumerate(clips):
        if clip.start_ms in {6750, 7500}:  # for three quarters of a second nothing else is heard
            rows[place] = (0.45 * ONE + 0.55 * TWO) / np.linalg.norm(0.45 * ONE + 0.55 * TWO)
    assert speakers(tell_apart(clips, rows, speech)) == [(0, 15_000, 0), (16_000, 30_000, 1)]


def test_a_clip_says_nothing_of_what_comes_after_it() -> None:
    # Given short clips of one speaker, and then long ones of the other
    clips = spans((0, 400), (0, 450), (0, 500), (50, 500), (500, 5000), (600, 5100), (700, 5200), (800, 5300))
    rows = np.stack([ONE] * 4 + [TWO] * 4).astype(np.float32)
    found = tell_apart(clips, rows, spans((0, 500), (500, 5300)))
    assert speakers(found) == [(0, 500, 0), (500, 5300, 1)]


def test_one_voice_is_not_split() -> None:
    speech = spans((0, 20_000), (21_000, 40_000))
    clips = clips_of(speech)
    found = tell_apart(clips, heard(clips, lambda _: 1.0), speech)
    assert speakers(found) == [(0, 20_000, 0), (21_000, 40_000, 0)]
    assert found.confidence == 0.0
    assert not any(piece.sure for piece in found.pieces)


def test_the_nearer_the_voices_the_less_the_confidence() -> None:
    speech = spans(*((start, start + 4500) for start in range(0, 60_000, 5000)))
    clips = clips_of(speech)
    found = [
        tell_apart(clips, heard(clips, lambda c, s=s: 1.0 if c.start_ms // 5000 % 2 else s, noise=0.3), speech)
        for s in (0.0, 0.3, 0.42, 0.55)
    ]
    confidences = [each.confidence for each in found]
    assert confidences == sorted(confidences, reverse=True)
    assert confidences[0] == 1.0
    assert 0.0 < confidences[2] < 0.9
    assert confidences[3] == 0.0


def test_too_little_to_tell_by_is_nobody_s_second_voice() -> None:
    speech = spans((0, 2000))
    clips = spans((0, 1500), (500, 2000))
    for found in (
        tell_apart(clips, np.stack([ONE, TWO]).astype(np.float32), speech),
        tell_apart([], np.zeros((0, 1), np.float32), speech),
        tell_apart(clips * 3, np.stack([ONE] * 6).astype(np.float32), speech),  # all the same
        tell_apart(clips * 3, np.zeros((6, 64), np.float32), speech),
    ):
        assert (found.confidence, speakers(found)) == (0.0, [(0, 2000, 0)])
    assert tell_apart(clips, np.stack([ONE, TWO]).astype(np.float32), []) == Diarisation(
        pieces=(), confidence=None
    )


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.tuples(st.integers(1, 900), st.integers(1, 9000)), max_size=8), seed=st.integers(0, 99))
def test_the_pieces_are_the_speech_to_the_millisecond(lengths: list[tuple[int, int]], seed: int) -> None:
    speech, at = [], 0
    for pause, length in lengths:
        speech.append(Span(start_ms=at + pause, end_ms=at + pause + length))
        at += pause + length
    clips = [span for span in clips_of(speech) if span.start_ms >= 0]
    rows = np.random.default_rng(seed).standard_normal((len(clips), 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = tell_apart(clips, rows, speech)
    assert {piece.speaker for piece in found.pieces} <= {0, 1}
    assert not found.pieces or found.pieces[0].speaker == 0
    assert all(piece.end_ms > piece.start_ms for piece in found.pieces)
    assert all(earlier.end_ms <= later.start_ms for earlier, later in pairwise(found.pieces))
    joined: list[tuple[int, int]] = []
    for piece in found.pieces:
        if joined and joined[-1][1] == piece.start_ms and piece.start_ms not in {s.start_ms for s in speech}:
            joined[-1] = (joined[-1][0], piece.end_ms)
        else:
            joined.append((piece.start_ms, piece.end_ms))
    assert joined == [(span.start_ms, span.end_ms) for span in speech]
