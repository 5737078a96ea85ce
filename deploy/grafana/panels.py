"""How Warmline's panels look: thin names over Grafana's own types (grafana-foundation-sdk).

Every panel has a unit and a sentence that says how to read it, and nothing is told by colour alone: a state is a
word, a line has its name in the legend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models.dashboard import (
    DashboardSpecialValueMapOptions,
    DataSourceRef,
    DataTransformerConfig,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# As Grafana names units.
NUMBER, PERCENT, SECONDS, BYTES, PER_SECOND, PER_MINUTE = "short", "percentunit", "s", "bytes", "ops", "opm"
TIMES = "suffix:×"  # noqa: RUF001  # as people write RTFx


@dataclass(frozen=True)
class Look:
    """What every panel has besides its queries."""

    title: str
    description: str
    unit: str = NUMBER
    columns: int = 8
    rows: int = 8


def query(expr: str, legend: str = "", *, instant: bool = False, form: PromQueryFormat | None = None) -> Any:
    """One question to Prometheus; `legend` names its answers."""
    made = prometheus.Dataquery().expr(" ".join(expr.split())).datasource(SOURCE)
    made = made.instant() if instant else made.range()
    if legend:
        made = made.legend_format(legend)
    return made.format(form) if form is not None else made


def lines(look: Look, *queries: Any, stacked: bool = False, minimum: float | None = 0) -> Any:
    """Lines over time; stacked where they are parts of a whole."""
    panel = (
        _dressed(timeseries.Panel(), look, queries)
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.TABLE)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
        .line_width(1)
        .fill_opacity(30 if stacked else 0)
        .show_points(kinds.VisibilityMode.NEVER)
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
    return panel if minimum is None else panel.min(minimum)


def number(look: Look, *queries: Any, bad_from: float | None = None, words: dict[str, str] | None = None) -> Any:
    """A figure to be read at a glance, with its past as a line behind it.

    From `bad_from` on it is red as well; `words` are said instead of figures: {"0": "DOWN"}.
    """
    steps = [Threshold(value=None, color="green")]
    if bad_from is not None:
        steps.append(Threshold(value=bad_from, color="red"))
    mappings: list[Any] = [
        SpecialValueMap(
            DashboardSpecialValueMapOptions(
                match=SpecialValueMatch.NA_N, result=ValueMappingResult(text="none yet")
            )
        )
    ]
    if words:
        options = {value: ValueMappingResult(text=word, index=i) for i, (value, word) in enumerate(words.items())}
        mappings.append(ValueMap(options))
    return (
        _dressed(stat.Panel(), look, queries)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(kinds.BigValueColorMode.VALUE if bad_from is not None else kinds.BigValueColorMode.NONE)
        .graph_mode(kinds.BigValueGraphMode.NONE if words else kinds.BigValueGraphMode.AREA)
        .text_mode(kinds.BigValueTextMode.VALUE_AND_NAME if len(queries) > 1 else kinds.BigValueTextMode.VALUE)
        .no_value("no data")
        .mappings(mappings)
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    )


def rows(look: Look, asked: Any, *, hidden: Sequence[str], names: dict[str, str], empty: str = "none") -> Any:
    """A table of what is so now: one row a series, its labels as columns."""
    tidy = DataTransformerConfig(
        id_val="organize",
        options={"excludeByName": dict.fromkeys(["Time", "__name__", *hidden], True), "renameByName": names},
    )
    return _dressed(table.Panel(), look, (asked,)).with_transformation(tidy).no_value(empty)


def heat(look: Look, asked: Any) -> Any:
    """A histogram over time: how many fell into which range."""
    return (
        _dressed(heatmap.Panel(), look, (asked,))
        .y_axis(heatmap.YAxisConfig().unit(look.unit))
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64))
        .show_legend()
    )


def as_heatmap(expr: str) -> Any:
    """A question whose answer is a heatmap's: one series a bucket."""
    return query(expr, "{{le}}", form=PromQueryFormat.HEATMAP)


def as_table(expr: str) -> Any:
    """A question about this moment whose answer is a table's."""
    return query(expr, instant=True, form=PromQueryFormat.TABLE)


def _dressed(panel: Any, look: Look, queries: Sequence[Any]) -> Any:
    for place, asked in enumerate(queries):
        panel = panel.with_target(asked.ref_id(chr(ord("A") + place)))
    return (
        panel.title(look.title)
        .description(look.description)
        .unit(look.unit)
        .datasource(SOURCE)
        .span(look.columns)
        .height(look.rows)
    )
