"""The strip of letters that shows a channel's emotions over time."""

from __future__ import annotations

from warmline.calls.palette import LOOKS
from warmline.calls.report import STANDARD_LABELS, ScoredWindow
from warmline.cli.tables import clock, strip


def window(start_ms: int, end_ms: int, top: str, score: float) -> ScoredWindow:
    return ScoredWindow(start_ms=start_ms, end_ms=end_ms, top=top, scores={top: score, "other": 1 - score})


def test_each_cell_shows_the_window_that_covers_most_of_it() -> None:
    # Given ten seconds in ten cells, and windows that end within a cell
    windows = [window(1000, 3400, "angry", 0.9), window(3400, 5000, "sad", 0.4)]
    # Then cell 3 (3 to 4 s) belongs to the window with 0.6 s of it, and silence is a dot
    assert strip(windows, 10.0, cells=10).plain == "·AAss·····"


def test_capitals_mark_confident_windows() -> None:
    assert strip([window(0, 1000, "happy", 0.5)], 2.0, cells=2).plain == "H·"
    assert strip([window(0, 1000, "happy", 0.49)], 2.0, cells=2).plain == "h·"


def test_a_window_shorter_than_a_cell_still_shows() -> None:
    assert strip([window(5000, 5100, "fearful", 0.8)], 3600.0, cells=4).plain == "F···"


def test_a_window_at_the_very_end_stays_in_the_last_cell() -> None:
    assert strip([window(9000, 10_000, "sad", 0.8)], 10.0, cells=10).plain == "·········S"


def test_a_call_without_speech_is_all_dots() -> None:
    assert strip([], 0.0, cells=3).plain == "···"


def test_every_standard_label_has_a_letter_of_its_own() -> None:
    assert set(LOOKS) == set(STANDARD_LABELS)
    assert len({look.letter for look in LOOKS.values()}) == len(LOOKS)


def test_a_label_that_is_not_standard_shows_by_its_initial() -> None:
    assert strip([window(0, 1000, "zeal", 0.9)], 1.0, cells=1).plain == "Z"


def test_clock_reads_like_a_player() -> None:
    assert [clock(0), clock(61_250), clock(3_600_000)] == ["0:00.0", "1:01.2", "60:00.0"]
