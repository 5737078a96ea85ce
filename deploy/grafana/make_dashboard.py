"""Writes dashboards/warmline.json, which people import: python deploy/grafana/make_dashboard.py [FILE]

It is made of Grafana's own types, and needs Prometheus alone, not the recording rules: whoever imports it may have
other ones. A test compares the file with what this makes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dashboard_rows import ROWS
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from panels import SOURCE
from promql import N

FILE = Path(__file__).parent / "dashboards" / "warmline.json"
ROW_IDS = 1000  # and on: a panel keeps its id when a row comes before it


def make() -> str:
    """The dashboard's JSON."""
    dashboard = (
        Dashboard("Warmline")
        .uid("warmline")
        .description("Emotion timelines from call recordings: the queue, the work, the workers and their needs.")
        .tags(["warmline"])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_of_label("namespace", "Fleet", "warmline_redis_up", "namespace"))
        .with_variable(_of_label("worker", "Worker", f"warmline_planned_children{{{N}}}", "instance"))
        .with_variable(_of_label("lane", "Lane", f"warmline_queue_jobs{{{N}}}", "lane"))
    )
    panel_id = 0
    for row_id, (title, panels) in enumerate(ROWS, ROW_IDS):
        dashboard = dashboard.with_row(Row(title).id(row_id))
        for panel in panels():
            panel_id += 1
            dashboard = dashboard.with_panel(panel.id(panel_id))
    return json.dumps(dashboard.build(), cls=JSONEncoder, sort_keys=True, indent=1) + "\n"


def _of_label(name: str, label: str, series: str, of: str) -> Any:
    """A choice among a label's values; all at first, and series that lack the label with them."""
    return (
        QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": f"label_values({series}, {of})", "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


if __name__ == "__main__":
    Path(*sys.argv[1:2] or [FILE]).write_text(make())
