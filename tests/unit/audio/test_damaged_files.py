"""Whatever happens to a file on its way: windows, or an error that has a name. Nothing else, and never a hang."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.settings import AudioSettings
from tests.recordings import ALL_CALLS, AV_FORMS, BILLING, read, write_av, write_raw_gsm
from warmline.audio.call import open_call
from warmline.jobs.errors import PermanentError

FORMS = (*(path.name for path in ALL_CALLS), *AV_FORMS, "gsm")


@cache
def content(directory: Path, form: str) -> bytes:
    """The first part of a call in some form; short, so that many damages can be tried."""
    for path in ALL_CALLS:
        if path.name == form:
            return path.read_bytes()[:40_000]
    call, rate_hz = read(BILLING, seconds=4)
    path = directory / form
    return (write_raw_gsm(path, call) if form == "gsm" else write_av(path, form, call, rate_hz)).read_bytes()


@st.composite
def damages(draw: st.DrawFn) -> tuple[float, list[tuple[float, int]], bytes]:
    """Where the file is cut (1 is its end), bytes that are changed (where, to what), and bytes put before it."""
    place = st.floats(0, 1, exclude_max=True)
    # Headers lie at the beginning, so half of the changes go there.
    near_start = place.map(lambda x: x / 200)
    changes = draw(st.lists(st.tuples(st.one_of(place, near_start), st.integers(0, 255)), max_size=30))
    cut = draw(st.one_of(st.just(1.0), place))
    return cut, changes, draw(st.one_of(st.just(b""), st.binary(max_size=40)))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@settings(
    max_examples=150,
    deadline=timedelta(seconds=20),
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(form=st.sampled_from(FORMS), damage=damages(), whole_channels=st.booleans())
def test_a_damaged_file_gives_windows_or_a_named_error(
    directory: Path,
    form: str,
    damage: tuple[float, list[tuple[float, int]], bytes],
    whole_channels: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    cut, changes, before = damage
    damaged = bytearray(content(directory, form))
    damaged = damaged[: round(cut * len(damaged))]
    for where, value in changes:
        if damaged:
            damaged[int(where * len(damaged))] = value
    (directory / "call").write_bytes(before + damaged)
    try:
        with open_call(directory / "call", AudioSettings()) as call:
            read_windows = call.whole_channels if whole_channels else call.speech_windows
            for window in read_windows(min_samples=400):
                assert 0 <= window.start_sample < window.end_sample
                assert len(window.samples) == window.end_sample - window.start_sample
    except PermanentError as error:
        assert error.message.endswith(".")  # noqa: PT017
    assert capfd.readouterr() == ("", "")


def test_half_an_m4a_is_not_audio(tmp_path: Path) -> None:
    # Given an m4a whose index, at its end, is missing; when it is read, then there is nothing to be had
    whole = content(tmp_path, "m4a")
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with (
        pytest.raises(PermanentError, match="not audio"),
        open_call(tmp_path / "half", AudioSettings()),
    ):
        pass
