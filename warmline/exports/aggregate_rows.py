"""Aggregates as a table with fixed columns, for CSV: a row for each role of each group."""

from __future__ import annotations

import json
from collections.abc import Iterator

from warmline.exports.aggregates import Aggregate, Group, RoleFigures
from warmline.exports.tables import Column, Row, Table, score_columns, score_values


def aggregate_table(by: tuple[str, ...]) -> Table:
    """The columns: the group's values, the figures of its calls, then those of one role."""
    return Table(
        name="aggregate",
        columns=(
            *(Column(f"by_{name}", "text", f"the group's {name}") for name in by),
            Column("calls", "integer", "calls of the group; this and what follows repeats in each role's row"),
            Column("hours", "number", "their length"),
            Column("talk_share", "number", "share of their time in which exactly one side speaks"),
            Column("overlap_share", "number", "two or more speak at once"),
            Column("silence_share", "number", "nobody speaks"),
            Column("excluded_share", "number", "left out"),
            Column("interruptions_per_hour", "number", "of calls with two sides or more"),
            Column("flags", "text", "share of the calls that each flag is on, a JSON object"),
            Column("categorised_calls", "integer", "calls that rules were applied to"),
            Column("categories", "text", "share of those that each category applies to, a JSON object"),
            Column("role", "text", "whose voices the rest is about; empty: the group has no channels"),
            Column("channels", "integer", "how many channels"),
            Column("talk_hours", "number", "how long they speak"),
            Column("scored_hours", "number", "how much of it was scored"),
            Column("dominant", "text", "the label with the highest mean score"),
            Column("dominant_score", "number", "its mean score"),
            *score_columns("score", "mean score of {label}, weighed by scored time"),
            *score_columns("change", "mean change of {label} from the first to the last quarter"),
            Column("changes", "integer", "in how many channels that was measured"),
        ),
    )


def aggregate_rows(found: Aggregate) -> Iterator[Row]:
    """Rows of `aggregate_table`."""
    for group in found.groups:
        of_calls = _of_calls(group)
        for role in group.roles or (None,):
            yield (*of_calls, *_of_role(role))


def _of_calls(group: Group) -> Row:
    return (
        *group.group.values(),
        *(group.calls, group.hours),
        *(group.talk_share, group.overlap_share, group.silence_share, group.excluded_share),
        group.interruptions_per_hour,
        json.dumps(group.flags),
        group.categorised_calls,
        json.dumps(group.categories, ensure_ascii=False),
    )


def _of_role(role: RoleFigures | None) -> Row:
    if role is None:
        return (None, 0, 0.0, 0.0, None, None, *score_values({}), *score_values({}), 0)
    return (
        *(role.role, role.channels, role.talk_hours, role.scored_hours, role.dominant, role.dominant_score),
        *score_values(role.scores),
        *score_values(role.change),
        role.changes,
    )
