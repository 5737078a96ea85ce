"""Two voices told apart: from embeddings of short clips to who speaks in each stretch of speech.

The clips are clustered into two on the unit sphere. Where clips of a second and a half overlap, each moment is
nearer to one voice or to the other; a hidden Markov model of two states makes turns of it, because people change
at pauses rather than within words (forward-backward; Rabiner, A tutorial on hidden Markov models, 1989). Its
posterior says how sure each moment is.

Nobody can be sure of this. Voices of one sex that change with emotion are often split by emotion, so the
confidence is drawn to be low there: docs/reports.md has what was measured.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from warmline.calls.report import Span

PIECE_MS: Final = 250  # speech is decided in pieces of about so much
# The posterior per difference of two cosines, and how likely the speaker changes from piece to piece: within a
# stretch of speech, and across a pause. Error changes little between half and twice of each.
SHARPNESS: Final = 15.0
CHANGE_WITHIN: Final = 0.02
CHANGE_AT_PAUSE: Final = 0.2
SURE: Final = 0.9  # a piece below this posterior is uncertain
# The cosine of the two clusters' centres. Of 60 calls of two speakers, those up to 0.52 were all split right, and
# half of those above 0.61; of 16 calls of one speaker two were below 0.6.
CLEARLY_TWO: Final = 0.35
ONE_VOICE: Final = 0.7
MIN_CLIPS: Final = 4  # fewer say nothing of a second voice

Embeddings = NDArray[np.float32]  # (clips, dimensions), each of length 1


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A quarter of a second of speech, or so, and who speaks."""

    start_ms: int
    end_ms: int
    speaker: int  # 0 spoke first
    sure: bool

    @property
    def duration_ms(self) -> int:
        """How long it is."""
        return self.end_ms - self.start_ms


@dataclass(frozen=True, kw_only=True)
class Diarisation:
    """Who speaks when. With a confidence of 0 all of it is the first speaker's: one voice, or no telling."""

    pieces: tuple[Piece, ...]  # in order; all of the speech
    confidence: float | None  # None: there is no speech


def tell_apart(clips: Sequence[Span], embeddings: Embeddings, speech: Sequence[Span]) -> Diarisation:
    """Who speaks in each stretch of `speech`, by what was heard in `clips` (in any order; a row for each)."""
    cut = [piece for span in speech for piece in _cut(span)]
    if not cut:
        return Diarisation(pieces=(), confidence=None)
    centres = _centres(embeddings) if len(clips) >= MIN_CLIPS else None
    if centres is None:
        return _one_voice(cut)
    confidence = (ONE_VOICE - float(centres[0] @ centres[1])) / (ONE_VOICE - CLEARLY_TWO)
    if confidence <= 0:
        return _one_voice(cut)
    leaning = _leanings(clips, embeddings @ (centres[0] - centres[1]), cut)
    starts = {span.start_ms for span in speech}
    changes = [CHANGE_AT_PAUSE if piece.start_ms in starts else CHANGE_WITHIN for piece in cut]
    posteriors = _posteriors([1 / (1 + math.exp(-SHARPNESS * each)) for each in leaning], changes)
    first = posteriors[0] >= 0.5  # whoever speaks first is speaker 0
    pieces = tuple(
        Piece(
            start_ms=piece.start_ms,
            end_ms=piece.end_ms,
            speaker=int((posterior >= 0.5) is not first),
            sure=max(posterior, 1 - posterior) >= SURE,
        )
        for piece, posterior in zip(cut, posteriors, strict=True)
    )
    return Diarisation(pieces=pieces, confidence=round(min(confidence, 1.0), 3))


def _one_voice(cut: Sequence[Span]) -> Diarisation:
    pieces = tuple(Piece(start_ms=span.start_ms, end_ms=span.end_ms, speaker=0, sure=False) for span in cut)
    return Diarisation(pieces=pieces, confidence=0.0)


def _cut(span: Span) -> list[Span]:
    count = max(1, round(span.duration_ms / PIECE_MS))
    edges = [span.start_ms + span.duration_ms * place // count for place in range(count + 1)]
    return [Span(start_ms=start, end_ms=end) for start, end in itertools.pairwise(edges)]


def _centres(embeddings: Embeddings) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The two clusters' directions; None where the clips cannot be told apart at all."""
    from sklearn.cluster import KMeans

    if len(np.unique(embeddings.round(6), axis=0)) < 2:
        return None
    found = KMeans(n_clusters=2, n_init=10, random_state=0).fit(embeddings.astype(np.float64)).cluster_centers_
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    one, two = found / np.maximum(lengths, 1e-9)
    return one, two


def _leanings(clips: Sequence[Span], differences: NDArray[np.float64], cut: Sequence[Span]) -> list[float]:
    """For each piece how far the clips over it lean to the first centre; those count most that lie around it."""
    order = sorted(range(len(clips)), key=lambda place: clips[place].start_ms)
    starts = [clips[place].start_ms for place in order]
    longest = max(clip.duration_ms for clip in clips)
    leanings = []
    for piece in cut:
        middle = (piece.start_ms + piece.end_ms) / 2
        weights = total = 0.0
        for place in order[bisect_right(starts, middle - longest) : bisect_right(starts, middle)]:
            clip = clips[place]
            if clip.end_ms > middle:
                off = abs(middle - (clip.start_ms + clip.end_ms) / 2) / (clip.duration_ms / 2 + PIECE_MS)
                weights += 1 - off
                total += (1 - off) * float(differences[place])
        leanings.append(total / weights if weights else 0.0)
    return leanings


def _posteriors(likely: Sequence[float], changes: Sequence[float]) -> list[float]:
    """How likely each piece is the first centre's, all pieces considered; of each alone it is `likely`."""
    forward = [likely[0]]
    for chance, change in zip(likely[1:], changes[1:], strict=True):
        before = forward[-1] * (1 - change) + (1 - forward[-1]) * change
        forward.append(_normal(before * chance, (1 - before) * (1 - chance)))
    backward = 0.5
    found = [forward[-1]]
    for place in range(len(likely) - 2, -1, -1):
        seen = _normal(backward * likely[place + 1], (1 - backward) * (1 - likely[place + 1]))
        change = changes[place + 1]
        backward = seen * (1 - change) + (1 - seen) * change
        found.append(_normal(forward[place] * backward, (1 - forward[place]) * (1 - backward)))
    return found[::-1]


def _normal(one: float, two: float) -> float:
    return one / (one + two) if one + two > 0 else 0.5
