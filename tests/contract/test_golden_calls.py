"""Made calls whose truth is known: who speaks when, how loud, who cuts in. Each figure is checked."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.analysts import analyst_with
from tests.made_calls import KEY, RATE_HZ, Samples, side, tone, voice, write_call
from warmline.audio.speech import SpeechModel, SpeechState
from warmline.calls.analyze import analyze_call
from warmline.calls.report import ChannelReport, Report, SourceFacts, Span
from warmline.emotion.engine import Engine
from warmline.jobs.records import ExcludedRange, Job, Options, Source

# The search for speech decides in steps of 32 ms, and hears an ending a little late.
EDGE_MS = 130
SEGMENT = Options(roles=("agent", "customer"))


def analyze(path: Path, engine: Engine, options: Options = SEGMENT) -> Report:
    source = SourceFacts(uri=path.name, size_bytes=path.stat().st_size)
    return analyze_call(path, analyst_with(engine), source=source, options=options)


def turns(channel: ChannelReport, pause_ms: int = 500) -> list[tuple[int, int]]:
    """Its stretches of speech; what a breath parts is one."""
    found: list[tuple[int, int]] = []
    for span in channel.speech:
        if found and span.start_ms - found[-1][1] < pause_ms:
            found[-1] = (found[-1][0], span.end_ms)
        else:
            found.append((span.start_ms, span.end_ms))
    return found


def near(*edges: tuple[float, float]) -> object:
    return pytest.approx(np.array(edges) * 1000, abs=EDGE_MS)


@pytest.fixture(scope="module")
def quarrel(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return analyze(write_quarrel(tmp_path_factory.mktemp("quarrel") / "call.wav"), engine)


def write_quarrel(path: Path) -> Path:
    """25 s: the agent speaks from 1 to 4 and 10.5 to 14, the customer from 5 to 8 and, cutting in, 12.6 to 17."""
    agent = side(25, (1, voice(3, dbfs=-20)), (10.5, voice(3.5, dbfs=-20)), seed=1)
    customer = side(25, (5, voice(3, dbfs=-30)), (12.6, voice(4.4, dbfs=-30)), noise_dbfs=-70, seed=2)
    return write_call(path, [agent, customer])


def test_who_speaks_when(quarrel: Report) -> None:
    agent, customer = quarrel.channels
    assert np.array(turns(agent)) == near((1, 4), (10.5, 14))
    assert np.array(turns(customer)) == near((5, 8), (12.6, 17))
    assert agent.speech_seconds == pytest.approx(6.5, abs=0.3)
    assert customer.speech_seconds == pytest.approx(7.4, abs=0.3)
    assert agent.talk_share == pytest.approx(6.5 / 13.9, abs=0.02)
    assert agent.talk_share + customer.talk_share == pytest.approx(1.0, abs=1e-3)
    assert quarrel.flags == () or set(quarrel.flags) == {"low_confidence"}


def test_where_the_time_goes(quarrel: Report) -> None:
    assert quarrel.conversation is not None
    breakdown = quarrel.conversation.breakdown
    assert breakdown.talk_ms + breakdown.overlap_ms + breakdown.silence_ms + breakdown.excluded_ms == 25_000
    assert breakdown.talk_ms == pytest.approx(3000 + 3000 + 2100 + 3000, abs=4 * EDGE_MS)
    assert breakdown.overlap_ms == pytest.approx(1400, abs=2 * EDGE_MS)
    assert breakdown.excluded_ms == 0
    silences = [(span.start_ms, span.end_ms) for span in quarrel.conversation.longest_silences]
    assert np.array(silences) == near((17, 25), (8, 10.5))


def test_who_cuts_in(quarrel: Report) -> None:
    assert quarrel.conversation is not None
    (found,) = quarrel.conversation.interruptions
    assert (found.by, found.by_channel, found.of, found.of_channel) == ("customer", 1, "agent", 0)
    assert np.array([(found.start_ms, found.end_ms)]) == near((12.6, 14))
    assert found.overlap_ms == found.end_ms - found.start_ms


def test_how_loud_it_is(quarrel: Report) -> None:
    agent, customer = (channel.level for channel in quarrel.channels)
    assert agent is not None
    assert customer is not None
    assert (agent.speech_dbfs, customer.speech_dbfs) == (pytest.approx(-20, abs=0.7), pytest.approx(-30, abs=0.7))
    assert (agent.noise_dbfs, customer.noise_dbfs) == (pytest.approx(-65, abs=0.5), pytest.approx(-70, abs=0.5))
    assert agent.peak_dbfs > agent.speech_dbfs + 6
    assert agent.clipped_share == customer.clipped_share == 0
    for channel, dbfs in zip(quarrel.channels, (-20, -30), strict=True):
        for window in channel.windows:
            assert window.loudness_dbfs == pytest.approx(dbfs, abs=2)
            assert 0.9 <= window.speech_share <= 1


def test_a_call_that_is_all_voice_has_a_level(engine: Engine, tmp_path: Path) -> None:
    report = analyze(write_call(tmp_path / "call.wav", [voice(3, dbfs=-26)]), engine)
    level = report.channels[0].level
    assert level is not None
    assert (level.speech_dbfs, level.noise_dbfs) == (pytest.approx(-26, abs=0.3), None)


def test_the_last_word_counts(engine: Engine, tmp_path: Path) -> None:
    report = analyze(write_call(tmp_path / "call.wav", [side(8, (1, voice(3)), (7.45, voice(0.55)))]), engine)
    assert np.array(turns(report.channels[0])) == near((1, 4), (7.45, 8))
    assert report.channels[0].windows[-1].end_ms == pytest.approx(8000, abs=5)


def test_a_voice_at_full_scale_is_clipped(engine: Engine, tmp_path: Path) -> None:
    loud = np.clip(side(8, (1, voice(6, dbfs=-3))), -0.999, 0.999)
    report = analyze(write_call(tmp_path / "call.wav", [loud, side(8, (1, voice(6)))]), engine)
    flat = np.abs(loud) >= 0.99
    clipped, clean = (channel.level for channel in report.channels)
    assert clipped is not None
    assert clean is not None
    assert 0.3 < clipped.clipped_share / (flat.sum() / (6 * RATE_HZ)) < 1.1
    assert clean.clipped_share == 0
    assert "clipping" in report.flags
    assert clipped.peak_dbfs == pytest.approx(0, abs=0.1)


def test_clipping_is_told_where_nobody_speaks(engine: Engine, tmp_path: Path) -> None:
    # Given a tenth of a call full of a tone that is cut off, and no voice
    cut_off = np.clip(tone(1, 425, dbfs=3), -0.999, 0.999)
    report = analyze(write_call(tmp_path / "call.wav", [side(10, (4, cut_off), noise_dbfs=None)]), engine)
    # Then its share is that of the whole call
    level = report.channels[0].level
    assert level is not None
    assert level.clipped_share == pytest.approx((np.abs(cut_off) > 0.98).sum() / (10 * RATE_HZ), rel=0.2)
    assert set(report.flags) == {"no_speech", "mono", "clipping"}


def test_telephone_keys_and_tones_are_no_speech(engine: Engine, tmp_path: Path) -> None:
    # Given a ring tone of two rings, a caller who dials 1, 9, 5 and speaks, and an agent
    keys = [(697, 1209), (852, 1477), (770, 1336)]
    dialled = [(7 + 0.25 * place, tone(0.12, *key)) for place, key in enumerate(keys)]
    caller = side(20, (0.5, tone(1, 425)), (3.5, tone(1, 440, 480)), *dialled, (10, voice(4)))
    agent = side(20, (15, voice(3)), seed=3)
    for rate_hz, subtype in ((16_000, "PCM_16"), (8_000, "ULAW")):
        # When the call is analysed
        report = analyze(
            write_call(tmp_path / "call.wav", [caller, agent], rate_hz=rate_hz, subtype=subtype), engine
        )
        heard, answered = report.channels
        # Then only voices are speech, and the keys and tones are told
        assert np.array(turns(heard)) == near((10, 14))
        assert np.array(turns(answered)) == near((15, 18))
        assert all(window.start_ms > 9_500 for window in heard.windows)
        assert [found.digit for found in heard.tones if found.kind == "dtmf"] == ["1", "9", "5"]
        rings = [found for found in heard.tones if found.kind == "tone"]
        assert [found.frequencies_hz for found in rings] == [
            (pytest.approx(425, abs=3),),
            (pytest.approx(440, abs=4), pytest.approx(480, abs=4)),
        ]
        assert np.array([(found.start_ms, found.end_ms) for found in rings]) == near((0.5, 1.5), (3.5, 4.5))
        assert answered.tones == ()
        # Nor are the tones noise
        assert heard.level is not None
        assert heard.level.noise_dbfs == pytest.approx(-65, abs=3)


def test_keys_that_sound_like_a_voice_are_no_speech(engine: Engine, tmp_path: Path) -> None:
    # Given a number dialled in a hurry, which the detector of voices takes for one
    dialled = [part for key in "1590*#2468" * 2 for part in (tone(0.07, *KEY[key], dbfs=-25), np.zeros(1600))]
    call = side(8, (1, np.concatenate(dialled).astype(np.float32)))
    heard = SpeechModel().probabilities(call, SpeechState.initial())
    assert (heard >= 0.5).sum() >= 8
    # When the call is analysed, then nobody speaks in it, and nothing is scored
    report = analyze(write_call(tmp_path / "call.wav", [call]), engine)
    (channel,) = report.channels
    assert (channel.speech, channel.windows) == ((), ())
    assert channel.tones[0].start_ms == pytest.approx(1000, abs=40)
    # And after digital silence they are where they are
    late = np.concatenate((np.zeros(50_000), call[RATE_HZ:])).astype(np.float32)
    after_silence = analyze(write_call(tmp_path / "late.wav", [late]), engine).channels[0].tones
    assert after_silence[0].start_ms == pytest.approx(50_000 / 16, abs=40)
    assert report.flags == ("no_speech", "mono")
    assert "".join(found.digit or "?" for found in channel.tones) == "1590*#2468" * 2


def test_what_is_excluded_is_looked_at_by_nobody(engine: Engine, tmp_path: Path) -> None:
    # Given a call whose hold music sings
    agent, customer = side(30, (1, voice(3)), (22, voice(3))), side(30, (5, voice(15)), seed=4)
    path = write_call(tmp_path / "call.wav", [agent, customer])
    held = Options(
        roles=("agent", "customer"),
        exclude=(
            ExcludedRange(start_seconds=8, end_seconds=12),
            ExcludedRange(start_seconds=11, end_seconds=20.5),
            ExcludedRange(start_seconds=29, end_seconds=99),
        ),
    )
    # When its place is told
    report = analyze(path, engine, held)
    # Then there is neither speech nor silence nor a score
    assert report.conversation is not None
    assert report.conversation.excluded == (
        Span(start_ms=8000, end_ms=20_500),
        Span(start_ms=29_000, end_ms=30_000),
    )
    breakdown = report.conversation.breakdown
    assert breakdown.excluded_ms == 13_500
    level = report.channels[1].level
    assert level is not None
    assert level.noise_dbfs == pytest.approx(-65, abs=1)  # and not the music's
    assert breakdown.talk_ms + breakdown.overlap_ms + breakdown.silence_ms + breakdown.excluded_ms == 30_000
    assert np.array(turns(report.channels[1])) == near((5, 8))
    assert all(window.end_ms <= 8_200 for window in report.channels[1].windows)
    assert all(span.end_ms <= 29_000 for span in report.conversation.longest_silences)
    # And otherwise it is the customer's
    assert np.array(turns(analyze(path, engine).channels[1])) == near((5, 20))


def test_what_the_calls_own_metadata_say(engine: Engine, tmp_path: Path) -> None:
    # Given a job whose call came with its sides and its hold music told
    agent, customer = side(14, (1, voice(3))), side(14, (5, voice(8)), seed=4)
    path = write_call(tmp_path / "call.wav", [agent, customer])

    def report_with(**metadata: str) -> Report:
        job = Job(
            id="0" * 32,
            source=Source(bucket="calls", key="call.wav"),
            options=SEGMENT,
            metadata=metadata,
            created_at=datetime.now(UTC),
        )
        source = SourceFacts(uri="call.wav", size_bytes=1)
        return analyze_call(path, analyst_with(engine), source=source, options=job.options, job=job)

    # When it is analysed
    report = report_with(roles="caller, clerk", exclude="0:08-13.5")
    # Then they are heeded, and the report says what was asked for
    assert [channel.role for channel in report.channels] == ["caller", "clerk"]
    assert report.conversation is not None
    assert report.conversation.excluded == (Span(start_ms=8000, end_ms=13_500),)
    assert np.array(turns(report.channels[1])) == near((5, 8))
    assert report.provenance.options == SEGMENT
    assert "metadata_unreadable" not in report.flags
    # And what cannot be read costs nothing and is told of
    unread = report_with(roles="Caller!, clerk", exclude="later")
    assert [channel.role for channel in unread.channels] == ["agent", "customer"]
    assert "metadata_unreadable" in unread.flags


def test_nothing_is_scored_across_what_is_excluded(engine: Engine, tmp_path: Path) -> None:
    # Given two short sentences that would be one window, after digital silence, and something between them
    path = write_call(tmp_path / "call.wav", [side(9, (4, voice(1.2)), (5.8, voice(1.2)), noise_dbfs=None)])
    (joined,) = analyze(path, engine).channels[0].windows
    assert joined.duration_ms > 2500
    assert joined.speech_share == pytest.approx(2.4 / 3.2, abs=0.06)
    # When that is left out, then they are two
    between = Options(exclude=(ExcludedRange(start_seconds=5.4, end_seconds=5.6),))
    windows = analyze(path, engine, between).channels[0].windows
    assert np.array([(window.start_ms, window.end_ms) for window in windows]) == near((4, 5.2), (5.8, 7))
    # And of a sentence that is left out in part the rest is scored
    half = Options(exclude=(ExcludedRange(start_seconds=5.5, end_seconds=6.4),))
    assert np.array(turns(analyze(path, engine, half).channels[0])) == near((4, 5.2), (6.4, 7))


def test_one_side_alone_is_told(engine: Engine, tmp_path: Path) -> None:
    report = analyze(write_call(tmp_path / "call.wav", [side(8, (1, voice(6))), side(8, seed=5)]), engine)
    assert "one_sided" in report.flags
    assert report.channels[1].talk_share == 0
    mono = analyze(write_call(tmp_path / "mono.wav", [side(8, (1, voice(6)))]), engine)
    assert "mono" in mono.flags
    assert "one_sided" not in mono.flags
    assert mono.channels[0].role == "mono"


def test_a_window_that_slides(engine: Engine, tmp_path: Path) -> None:
    # Given 17 s of speech without a pause
    path = write_call(tmp_path / "call.wav", [side(20, (1, voice(17)))])
    # When a window slides over it, a second at a time
    report = analyze(path, engine, Options(granularity="frame", hop_seconds=1.0))
    # Then windows of 5 s begin every second, and cover all of it
    windows = report.channels[0].windows
    assert {after.start_ms - before.start_ms for before, after in pairwise(windows)} == {1000}
    assert {window.duration_ms for window in windows[:-2]} == {5000}
    assert windows[-1].end_ms == pytest.approx(18_000, abs=2 * EDGE_MS)
    assert report.channels[0].speech == analyze(path, engine).channels[0].speech
    # And with a hop of 2.5 s there are fewer, some of them the same
    wider = analyze(path, engine, Options(granularity="frame", hop_seconds=2.5)).channels[0].windows
    assert {after.start_ms - before.start_ms for before, after in pairwise(wider)} == {2500}
    same = {window.start_ms: window for window in windows}
    assert same[wider[2].start_ms] == wider[2]


def test_a_window_slides_over_a_monologue_without_a_gap(engine: Engine, tmp_path: Path) -> None:
    # Given more speech than is held at once
    path = write_call(tmp_path / "call.wav", [side(52, (1, voice(50)))])
    windows = analyze(path, engine, Options(granularity="frame", hop_seconds=4.0)).channels[0].windows
    assert [after.start_ms - before.start_ms for before, after in pairwise(windows)] == [4000] * (len(windows) - 1)
    assert [window.duration_ms for window in windows[:-2]] == [5000] * (len(windows) - 2)
    assert windows[-1].end_ms == pytest.approx(51_000, abs=2 * EDGE_MS)
    assert all(window.loudness_dbfs == pytest.approx(-20, abs=2) for window in windows)


def test_an_utterance_tells_who_speaks_when(quarrel: Report, engine: Engine, tmp_path: Path) -> None:
    path = write_quarrel(tmp_path / "call.wav")
    report = analyze(path, engine, Options(granularity="utterance", roles=("agent", "customer")))
    assert [len(channel.windows) for channel in report.channels] == [1, 1]
    assert report.conversation == quarrel.conversation
    assert [channel.speech for channel in report.channels] == [channel.speech for channel in quarrel.channels]


def test_an_utterance_without_what_is_excluded(engine: Engine, tmp_path: Path) -> None:
    # Given a channel with something in its middle that is left out, and the same channel without it
    before, between, after = voice(2), tone(1.5, 425), voice(3)
    asked = Options(granularity="utterance", exclude=(ExcludedRange(start_seconds=2, end_seconds=3.5),))
    cut = analyze(write_call(tmp_path / "cut.wav", [np.concatenate((before, between, after))]), engine, asked)
    plain = analyze(
        write_call(tmp_path / "plain.wav", [np.concatenate((before, after))]),
        engine,
        Options(granularity="utterance"),
    )
    # Then they score the same, and the window tells of the whole call
    (whole,), (short,) = cut.channels[0].windows, plain.channels[0].windows
    assert list(whole.scores.values()) == pytest.approx(list(short.scores.values()), abs=1e-5)
    assert (whole.start_ms, whole.end_ms) == (0, 6500)


@example(rate_hz=16_000, less=56, granularity="segment")  # half a millisecond
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    rate_hz=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100]),
    less=st.integers(0, 400),
    granularity=st.sampled_from(["segment", "frame", "utterance"]),
)
def test_everything_lies_inside_the_call_and_in_order(
    rate_hz: int, less: int, granularity: str, engine: Engine, tmp_path: Path
) -> None:
    # Given two sides that speak to the very end of a call of any length, at any rate
    sides = [side(7, (0.2, voice(2)), (4, voice(3))), side(7, (3, voice(4)), seed=6)]
    samples = soxr.resample(np.stack(sides, axis=1), RATE_HZ, rate_hz)
    soundfile.write(tmp_path / "call.wav", samples[: len(samples) - less], rate_hz)
    report = analyze(tmp_path / "call.wav", engine, Options.model_validate({"granularity": granularity}))
    # Then every time lies inside of it, in order, and the breakdown adds up
    end_ms = report.duration_ms
    assert report.conversation is not None
    breakdown = report.conversation.breakdown
    parts = (breakdown.talk_ms, breakdown.overlap_ms, breakdown.silence_ms, breakdown.excluded_ms)
    assert sum(parts) == end_ms
    assert min(parts) >= 0
    for channel in report.channels:
        for spans in (channel.windows, channel.speech, channel.tones, channel.summary.tenths):
            assert all(0 <= each.start_ms < each.end_ms <= end_ms for each in spans)
            assert [each.start_ms for each in spans] == sorted(each.start_ms for each in spans)
        assert all(after.start_ms > before.end_ms for before, after in pairwise(channel.speech))
        if granularity == "segment":
            assert all(after.start_ms >= before.end_ms for before, after in pairwise(channel.windows))
        for window in channel.windows:
            assert sum(window.scores.values()) == pytest.approx(1, abs=1e-6)
            assert 0 <= window.speech_share <= 1
            assert 0 <= window.margin <= window.scores[window.top] <= 1


@pytest.fixture(scope="module")
def spoken() -> Samples:
    """13 s with pauses of every length: no silence at either end."""
    pieces = [
        voice(2.2), np.zeros(4_800), voice(1.3), np.zeros(20_000), voice(5.6), np.zeros(9_999), voice(0.7),
    ]  # fmt: skip
    return np.concatenate(pieces).astype(np.float32)


@pytest.fixture(scope="module")
def plain(engine: Engine, spoken: Samples, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return analyze(write_call(tmp_path_factory.mktemp("plain") / "call.wav", [spoken]), engine)


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(before=st.integers(0, 40_000), after=st.integers(0, 300_000))
def test_adding_silence_changes_no_score(
    before: int, after: int, engine: Engine, spoken: Samples, plain: Report, tmp_path: Path
) -> None:
    # Given a call, and the same with silence before and after it, of any length
    padded = np.concatenate((np.zeros(before), spoken, np.zeros(after))).astype(np.float32)
    quiet = analyze(write_call(tmp_path / "quiet.wav", [padded]), engine)
    # Then the windows are the same ones, later, with the very same scores
    scores, later = ([w.scores for w in report.channels[0].windows] for report in (plain, quiet))
    assert later == scores
    starts, moved = ([w.start_ms for w in report.channels[0].windows] for report in (plain, quiet))
    assert moved == [pytest.approx(start + before / 16, abs=1) for start in starts]
    spans, moved_spans = ([(s.start_ms, s.end_ms) for s in report.channels[0].speech] for report in (plain, quiet))
    assert np.array(moved_spans) == pytest.approx(np.array(spans) + before / 16, abs=1)
    # Durations are told in milliseconds, so means may move by a rounding.
    means, moved_means = (list(report.channels[0].summary.scores.values()) for report in (plain, quiet))
    assert moved_means == pytest.approx(means, abs=1e-3)
    assert quiet.conversation is not None
    assert plain.conversation is not None
    assert quiet.conversation.breakdown.talk_ms == pytest.approx(plain.conversation.breakdown.talk_ms, abs=5)


def test_adding_silence_at_8_khz_moves_nothing_by_more_than_rounding(
    engine: Engine, spoken: Samples, tmp_path: Path
) -> None:
    # Given a recording at 8 kHz
    soft = soxr.resample(spoken, 16_000, 8_000)
    soundfile.write(tmp_path / "plain.wav", soft, 8_000)
    soundfile.write(tmp_path / "quiet.wav", np.concatenate((np.zeros(33_333), soft, np.zeros(50_000))), 8_000)
    # When it is analysed with and without silence around it
    plain, quiet = (analyze(tmp_path / f"{name}.wav", engine) for name in ("plain", "quiet"))
    # Then the scores are the same, as nearly as the resampler's are
    assert len(plain.channels[0].windows) == len(quiet.channels[0].windows)
    for before, after in zip(plain.channels[0].windows, quiet.channels[0].windows, strict=True):
        assert list(after.scores.values()) == pytest.approx(list(before.scores.values()), abs=5e-3)
