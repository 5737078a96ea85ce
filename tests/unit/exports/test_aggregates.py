"""Figures over calls whose every second is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.made_reports import made_side, make_report
from warmline.calls.report import Categories, CategoryMatch, Report
from warmline.calls.stored_reports import StoredReport, Unreadable
from warmline.exports.aggregate_rows import aggregate_rows, aggregate_table
from warmline.exports.aggregates import Aggregate, Group, Grouping, aggregate
from warmline.jobs.errors import InvalidRequest

HOUR_MS = 3_600_000


def upset(name: str, **more: Any) -> Report:
    """40 s: the agent speaks for 10, then both for 2, then the customer for 8; 20 are silent.

    The customer is angry 0.8 for 4 s, then 0.2 for 6; first and last quarter change nothing: the last is silent.
    """
    return make_report(
        made_side("agent", speech=[(0, 12_000)], windows=[(0, 12_000, {"neutral": 0.7, "happy": 0.1})]),
        made_side(
            "customer",
            speech=[(10_000, 20_000)],
            windows=[(10_000, 14_000, {"angry": 0.8, "sad": 0.2}), (14_000, 20_000, {"angry": 0.2, "sad": 0.8})],
        ),
        duration_ms=40_000,
        metadata={"agent": name, "queue": "billing"},
        categories=Categories(digest="0" * 16, matches=(CategoryMatch(category="upset", ranges=()),)),
        **more,
    )


def calm(name: str, **more: Any) -> Report:
    """80 s: the customer speaks for the first 20 and the last 20, at first sad, then happy."""
    return make_report(
        made_side("agent", windows=[]),
        made_side(
            "customer",
            windows=[(0, 20_000, {"sad": 0.9, "happy": 0.1}), (60_000, 80_000, {"sad": 0.2, "happy": 0.8})],
        ),
        duration_ms=80_000,
        metadata={"agent": name},
        **more,
    )


def summed(by: str, *reports: Report, date: str = "analysed_at", max_groups: int = 100) -> Aggregate:
    return aggregate(
        (StoredReport(place=str(n), version="", report=report) for n, report in enumerate(reports)),
        Grouping.parse(by, date),
        max_groups=max_groups,
    )


def groups(found: Aggregate) -> dict[tuple[str | None, ...], Group]:
    return {tuple(group.group.values()): group for group in found.groups}


def test_the_figures_of_a_group() -> None:
    found = summed("agent", upset("ann"), upset("ann"), calm("ann"), calm("bob"))

    assert found.by == ("agent",)
    assert found.calls == 4
    ann, bob = found.groups
    assert (ann.group, ann.calls, ann.hours) == ({"agent": "ann"}, 3, round(160_000 / HOUR_MS, 4))
    # Of 160 s: 2 x (10 + 8) + 40 with one voice, 2 x 2 with two
    shares = (ann.talk_share, ann.overlap_share, ann.silence_share, ann.excluded_share)
    assert shares == (0.475, 0.025, 0.5, 0)
    # The customer begins while the agent speaks: once in each 40 s of two calls
    assert ann.interruptions_per_hour == round(2 / (160_000 / HOUR_MS), 2)
    assert (bob.calls, bob.interruptions_per_hour) == (1, 0)
    assert ann.flags["one_sided"] == round(1 / 3, 4)
    assert bob.flags["one_sided"] == 1
    assert (ann.categorised_calls, ann.categories) == (2, {"upset": 1.0})
    assert (bob.categorised_calls, bob.categories) == (0, {})


def test_emotions_are_weighed_by_time() -> None:
    (group,) = summed("agent", upset("ann"), calm("ann")).groups
    agent, customer = group.roles

    assert (agent.role, agent.channels, agent.dominant, agent.dominant_score) == ("agent", 2, "neutral", 0.7)
    assert (agent.scored_hours, agent.talk_hours) == (round(12_000 / HOUR_MS, 4),) * 2
    # angry: 4 s of 0.8, 6 s of 0.2, 40 s of none
    assert customer.scores["angry"] == round((4 * 0.8 + 6 * 0.2) / 50, 4)
    assert customer.scores["sad"] == round((4 * 0.2 + 6 * 0.8 + 20 * 0.9 + 20 * 0.2) / 50, 4)
    assert customer.dominant == "sad"
    assert customer.dominant_score == customer.scores["sad"]
    assert sum(customer.scores.values()) == pytest.approx(1, abs=1e-3)
    # Only one of the two calls has speech in both quarters
    assert (customer.changes, customer.change["happy"], customer.change["sad"]) == (1, 0.7, -0.7)
    assert agent.changes == 0


def test_groups_by_several_things_and_by_what_is_missing() -> None:
    found = groups(summed("queue,category", upset("ann"), calm("ann"), calm("bob")))
    assert list(found) == [("billing", "upset"), (None, None)]
    assert found[None, None].calls == 2


def test_a_call_counts_in_each_of_its_categories() -> None:
    both = upset("ann").model_copy(
        update={
            "categories": Categories(
                digest="0" * 16,
                matches=tuple(CategoryMatch(category=name, ranges=()) for name in ("long", "upset")),
            )
        }
    )
    found = groups(summed("category", both, upset("bob")))
    assert {key: group.calls for key, group in found.items()} == {("long",): 1, ("upset",): 2}


def test_by_role_each_group_has_its_own_voices() -> None:
    found = groups(summed("role", upset("ann"), calm("bob")))
    assert list(found) == [("agent",), ("customer",)]
    assert [role.role for role in found["customer",].roles] == ["customer"]
    assert found["customer",].calls == 2


def test_by_day_batch_and_model() -> None:
    night = datetime(2026, 5, 1, 23, 59, tzinfo=UTC)
    found = groups(summed("day,batch,model", upset("ann", analysed_at=night, batch_id="b" * 32), upset("ann")))
    assert list(found) == [("2026-05-01", "b" * 32, "mini"), ("2026-11-23", None, "mini")]
    by_key = summed("day", upset("ann", key="2026/04/03/a.wav"), upset("ann", key="a.wav"), date="key")
    assert list(groups(by_key)) == [("2026-04-03",), (None,)]


def test_metadata_by_other_names() -> None:
    report = upset("ann").model_copy(update={"metadata": {"employee": "e-7", "day": "shift-2"}})
    found = summed("agent=employee,metadata:day", report)
    assert found.groups[0].group == {"agent": "e-7", "day": "shift-2"}


@pytest.mark.parametrize("by", ["", " , ", "a,b,c,d,e", "agent=", "=agent", "metadata:", "role,metadata:role"])
def test_what_cannot_be_grouped_by(by: str) -> None:
    with pytest.raises(InvalidRequest):
        Grouping.parse(by)


def test_there_is_a_limit_to_groups_and_to_their_roles() -> None:
    calls = [upset(f"agent-{n}") for n in range(11)]
    assert len(summed("agent", *calls, max_groups=11).groups) == 11
    with pytest.raises(InvalidRequest, match="more than 10 groups of agent"):
        summed("agent", *calls, max_groups=10)
    roles = [make_report(made_side(f"voice_{n}", windows=[]), duration_ms=1000) for n in range(17)]
    with pytest.raises(InvalidRequest, match="more than 1 groups"):
        summed("batch", *roles, max_groups=1)


def test_what_cannot_be_read_counts_nowhere() -> None:
    def found() -> Iterator[StoredReport | Unreadable]:
        for number in range(30):
            yield Unreadable(place=f"p{number}", version="", reason="no report")
        yield StoredReport(place="x", version="", report=upset("ann"))

    made = aggregate(found(), Grouping.parse("agent"), max_groups=1)
    assert (made.calls, made.unreadable, len(made.unreadable_places)) == (1, 30, 20)
    assert made.unreadable_places[0] == "p0: no report"


def test_without_speech_or_channels_there_is_nothing_to_divide_by() -> None:
    nothing = make_report(duration_ms=0, conversation=None, metadata={"agent": "ann"})
    (group,) = summed("agent", nothing).groups
    assert (group.talk_share, group.interruptions_per_hour, group.roles) == (None, None, ())
    assert len(list(aggregate_rows(summed("agent", nothing)))) == 1


def test_as_rows_for_csv() -> None:
    found = summed("queue,agent", upset("ann"))
    names = [column.name for column in aggregate_table(found.by).columns]
    agent, customer = (dict(zip(names, row, strict=True)) for row in aggregate_rows(found))
    assert (agent["by_queue"], agent["by_agent"], agent["calls"], agent["role"]) == ("billing", "ann", 1, "agent")
    assert (customer["dominant"], customer["score_sad"]) == ("sad", pytest.approx(0.56))
    assert json.loads(str(customer["categories"])) == {"upset": 1.0}
    assert len(names) == len(set(names))
