"""The flags of made calls: each has a line, and a call on either side of it."""

from __future__ import annotations

import pytest

from tests.made_reports import made_side, make_report
from warmline.calls.report import Report


def call(
    *, angry: float = 0.6, agent_ms: int = 4000, customer_ms: int = 4000, clipped_share: float = 0.0
) -> Report:
    agent = made_side("agent", windows=[(0, agent_ms, {"neutral": 0.8})])
    customer = made_side(
        "customer", windows=[(5000, 5000 + customer_ms, {"angry": angry})], clipped_share=clipped_share
    )
    return make_report(agent, customer, duration_ms=60_000)


def test_a_call_without_anything_to_mind() -> None:
    assert call().flags == ()


@pytest.mark.parametrize(("angry", "is_low"), [(0.34, True), (0.35, False)])
def test_low_confidence(angry: float, is_low: bool) -> None:
    assert (call(angry=angry).flags == ("low_confidence",)) == is_low


@pytest.mark.parametrize(("share", "is_clipping"), [(0.0009, False), (0.001, True)])
def test_clipping(share: float, is_clipping: bool) -> None:
    assert (call(clipped_share=share).flags == ("clipping",)) == is_clipping


@pytest.mark.parametrize(("agent_ms", "customer_ms", "is_one_sided"), [(9000, 1000, True), (8900, 1100, False)])
def test_one_sided(agent_ms: int, customer_ms: int, is_one_sided: bool) -> None:
    assert (call(agent_ms=agent_ms, customer_ms=customer_ms).flags == ("one_sided",)) == is_one_sided


def test_shares_of_the_talk() -> None:
    report = call(agent_ms=3000, customer_ms=1000)
    assert [channel.talk_share for channel in report.channels] == [0.75, 0.25]
    silent = make_report(made_side("agent", windows=[]), made_side("customer", windows=[]), duration_ms=5000)
    assert [channel.talk_share for channel in silent.channels] == [None, None]
    assert silent.flags == ("no_speech",)


def test_a_windows_share_of_speech() -> None:
    side = made_side("agent", speech=[(0, 1000), (1500, 2000)], windows=[(0, 2000, {}), (2000, 3000, {})])
    windows = make_report(side, duration_ms=5000).channels[0].windows
    assert [window.speech_share for window in windows] == [0.75, 0.0]
    assert "mono" in make_report(side, duration_ms=5000).flags
