"""A mono call's windows pass, and at its end its two speakers are two sides."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from config.settings import AnalysisSettings
from warmline.audio.resampling import SAMPLE_RATE_HZ
from warmline.audio.windows import Samples, Window
from warmline.calls.diarisation import Embeddings
from warmline.calls.report import ChannelLevel, Span, Tone
from warmline.calls.sides import RawWindow, Side, describe_sides
from warmline.calls.speakers import CLIP_SAMPLES, CLIPS_AT_ONCE, SpeakerSplitter, splitter_for
from warmline.jobs.records import Options

LOW, HIGH = 120.0, 410.0


class PitchVoices:
    """Tells voices apart that are tones: by the spectrum's shape, which is all that these have."""

    name = "pitch"

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def embed(self, clips: Sequence[Samples]) -> Embeddings:
        self.batches.append([len(clip) for clip in clips])
        rows = []
        for clip in clips:
            spectrum = np.abs(np.fft.rfft(clip[::8], 3000)) ** 2
            bands = np.array([band.sum() for band in np.array_split(spectrum, 12)])
            rows.append(bands / np.linalg.norm(bands))
        return np.array(rows, np.float32)


def tone(hertz: float, start_ms: int, end_ms: int) -> Samples:
    times = np.arange(start_ms * 16, end_ms * 16) / SAMPLE_RATE_HZ
    return (0.3 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def window(*parts: tuple[float, int, int]) -> Window:
    """One window of these tones in a row."""
    return Window(
        channel=0, start_sample=parts[0][1] * 16, end_sample=parts[-1][2] * 16,
        samples=np.concatenate([tone(*part) for part in parts]),
    )  # fmt: skip


def side(windows: Iterable[Window], speech: Iterable[tuple[int, int]], **more: object) -> Side:
    raw = tuple(
        RawWindow(
            start_ms=w.start_sample // 16, end_ms=w.end_sample // 16, loudness_dbfs=-20.0, scores={"sad": 1.0}
        )
        for w in windows
    )
    spans = tuple(Span(start_ms=start, end_ms=end) for start, end in speech)
    return Side(index=0, role="mono", speech=spans, windows=raw, **more)


def edges(spans: Iterable[Span | RawWindow]) -> list[tuple[int, int]]:
    return [(span.start_ms, span.end_ms) for span in spans]


def test_windows_and_speech_go_to_the_speakers() -> None:
    # Given four turns, the third a window in which both speak
    windows = [
        window((LOW, 1000, 5000)),
        window((HIGH, 6000, 10_000)),
        window((LOW, 12_000, 15_500), (HIGH, 15_500, 17_000)),
        window((HIGH, 17_000, 21_000)),
        window((LOW, 30_000, 34_000)),
    ]
    speech = [(1000, 5000), (6000, 10_000), (12_000, 21_000), (30_000, 34_000)]
    beeps = (Tone(start_ms=0, end_ms=500, kind="tone", frequencies_hz=(440,)),)
    splitter = SpeakerSplitter(PitchVoices())
    # When they have passed, as they are
    assert list(splitter.follow(iter(windows))) == windows
    level = ChannelLevel(speech_dbfs=-20.0, noise_dbfs=None, peak_dbfs=-3.0, clipped_share=0.0)
    sides, split = splitter.split(side(windows, speech, tones=beeps, level=level), ("agent", "customer"))
    # Then each has their windows, the mixed one by majority
    assert [(each.index, each.role) for each in sides] == [(0, "agent"), (0, "customer")]
    assert edges(sides[0].windows) == [(1000, 5000), (12_000, 17_000), (30_000, 34_000)]
    assert edges(sides[1].windows) == [(6000, 10_000), (17_000, 21_000)]
    # And their speech is cut where they change
    (first, until), *rest = edges(sides[0].speech)
    assert (first, until) == (1000, 5000)
    assert rest[0][0] == 12_000
    assert rest[0][1] == pytest.approx(15_500, abs=500)
    assert rest[1:] == [(30_000, 34_000)]
    assert edges(sides[1].speech) == [(6000, 10_000), (rest[0][1], 21_000)]
    # And the 1.5 s in the other's window are counted as uncertain, and little else
    assert split.confidence is not None
    assert split.confidence > 0.9
    assert split.uncertain_share == pytest.approx(1.5 / 21, abs=0.03)
    assert split.method.startswith("pitch")
    # And what is the recording's own is not said of one speaker, but for its tones, which stand once
    assert [each.level for each in sides] == [None, None]
    assert (sides[0].tones, sides[1].tones) == (beeps, ())


def test_roles_that_are_not_two_are_left_aside() -> None:
    for roles in ((), ("agent",), ("agent", "customer", "supervisor")):
        sides, _ = SpeakerSplitter(PitchVoices()).split(side([], []), roles)
        assert [each.role for each in sides] == ["speaker_1", "speaker_2"]


def test_a_call_without_speech_has_two_silent_sides_and_nothing_to_trust() -> None:
    splitter = SpeakerSplitter(PitchVoices())
    assert list(splitter.follow(iter(()))) == []
    sides, split = splitter.split(side([], []), ())
    assert [(each.speech, each.windows) for each in sides] == [((), ()), ((), ())]
    assert (split.confidence, split.uncertain_share) == (None, None)


def test_one_voice_stays_one_and_says_so() -> None:
    windows = [window((LOW, start, start + 4000)) for start in range(0, 40_000, 5000)]
    splitter = SpeakerSplitter(PitchVoices())
    list(splitter.follow(iter(windows)))
    sides, split = splitter.split(side(windows, [(s, s + 4000) for s in range(0, 40_000, 5000)]), ())
    assert edges(sides[0].windows) == [(w.start_sample // 16, w.end_sample // 16) for w in windows]
    assert (sides[1].speech, sides[1].windows) == ((), ())
    assert (split.confidence, split.uncertain_share) == (0.0, 1.0)


@pytest.mark.parametrize("hop_ms", [5000, 1000, 300])
def test_what_slides_is_heard_once(hop_ms: int) -> None:
    # Given speech that is cut into windows of five seconds, the next one's start `hop_ms` further
    windows = [window((LOW, start, start + 5000)) for start in range(0, 40_001, hop_ms)]
    voices = PitchVoices()
    # When they pass
    list(SpeakerSplitter(voices).follow(iter(windows)))
    # Then the voice model has heard each moment about twice, as clips overlap by half, whatever the hop
    end_ms = windows[-1].end_sample // 16
    clips = [length for batch in voices.batches for length in batch]
    assert set(clips) == {CLIP_SAMPLES}
    assert len(clips) == pytest.approx(end_ms / 750, abs=2)
    # And in batches of clips of one length
    assert max(map(len, voices.batches)) == CLIPS_AT_ONCE


def test_short_stretches_are_heard_whole_and_the_end_of_each_is() -> None:
    voices = PitchVoices()
    windows = [window((LOW, 0, 700)), window((LOW, 2000, 2200)), window((LOW, 6000, 8000))]
    list(SpeakerSplitter(voices).follow(iter(windows)))
    # 0.7 s; nothing of what is too short to know a voice by; 1.5 s of the two, and the last 1.5 s
    assert voices.batches == [[700 * 16], [CLIP_SAMPLES, CLIP_SAMPLES]]


def test_nothing_of_the_audio_is_kept() -> None:

    def three_minutes() -> Iterable[Window]:
        for start in range(0, 180_000, 5000):  # without a pause: one run
            yield window((LOW, start, start + 5000))

    splitter = SpeakerSplitter(PitchVoices())
    tracemalloc.start()
    peak = 0
    for _ in splitter.follow(iter(three_minutes())):
        peak = max(peak, tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert peak < 6e6  # three minutes are 11.5 MB


def test_only_mono_calls_are_split_and_only_where_it_is_asked() -> None:
    assert splitter_for(1, Options(), threads=1) is None
    assert splitter_for(2, Options(split_speakers=True), threads=1) is None


def test_a_recording_that_is_too_loud_is_flagged_though_its_level_is_no_speaker_s() -> None:
    loud = ChannelLevel(speech_dbfs=-3.0, noise_dbfs=None, peak_dbfs=0.0, clipped_share=0.5)
    sides, _ = SpeakerSplitter(PitchVoices()).split(side([], [(0, 900)], level=loud), ())
    for level, flags in ((loud, {"mono", "one_sided", "clipping"}), (None, {"mono", "one_sided"})):
        found = describe_sides(
            sides, duration_ms=1000, recorded_channels=1, shared_level=level, settings=AnalysisSettings()
        )
        assert set(found.flags) == flags
