"""The dashboard's file: made by its script, in Grafana's own types, and told in words besides colours."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.monitoring.prometheus_server import DEPLOY

GRAFANA = DEPLOY / "grafana"
FILE = GRAFANA / "dashboards" / "warmline.json"
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
WIDTH = 24  # Grafana's columns


def dashboard() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(FILE.read_text())
    return made


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def test_the_file_is_what_its_script_makes(tmp_path: Path) -> None:
    made = tmp_path / "made.json"
    subprocess.run([sys.executable, GRAFANA / "make_dashboard.py", made], check=True)
    assert made.read_text() == FILE.read_text(), "run python deploy/grafana/make_dashboard.py"


def test_grafanas_types_take_all_of_it() -> None:
    text = json.dumps(Dashboard.from_json(dashboard()).to_json(), default=lambda part: part.to_json())
    assert json.loads(text) == dashboard()


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    assert unit in UNITS or unit.startswith("suffix:")
    assert panel["datasource"]["uid"] == "${datasource}"
    legends = [query.get("legendFormat") for query in panel["targets"]]
    if panel["type"] == "timeseries":
        assert all(legends), "a line without a name is told apart by its colour alone"
        assert panel["options"]["legend"]["showLegend"]
    assert len(set(legends)) == len(legends)
    for query in panel["targets"]:
        assert 'namespace=~"$namespace"' in query["expr"]
        by = re.findall(r"by \(([\w, ]+)\)", query["expr"])
        for label in re.findall(r"\{\{(\w+)\}\}", query.get("legendFormat", "")):
            assert label == "instance" or any(label in labels for labels in by), f"{label}: {query['expr']}"


def test_figures_of_the_fleet_are_counted_once() -> None:
    told_by_every_api = (
        r"warmline_(queue|running|delayed|held|dead|workers|worker_children|webhook_deliveries|redis_memory|"
        r"jobs_ended|attempts_ended)\w*"
    )
    for panel in panels():
        for query in panel["targets"]:
            for found in re.finditer(told_by_every_api, query["expr"]):
                before = query["expr"][: found.start()]
                assert re.search(r"max(?: by \([\w, ]+\) )?\((?:rate\()?$", before), query["expr"]


def test_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    for place in places:
        assert place["x"] + place["w"] <= WIDTH
    for one, other in itertools.combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)


def test_panels_have_ids_of_their_own() -> None:
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)
    assert dashboard()["uid"] == "warmline"


def test_the_provisioning_points_at_what_compose_mounts() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/warmline.yml").read_text())["providers"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]
    mounts = dict(mount.split(":")[:2] for mount in compose["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert source["url"] == "http://prometheus:9090"
    assert source["type"] == "prometheus"
    mounts = dict(mount.split(":")[:2] for mount in compose["prometheus"]["volumes"])
    assert mounts["./deploy/prometheus/prometheus.yml"] == "/etc/prometheus/prometheus.yml"
    assert mounts["./deploy/prometheus/rules.yml"] == "/etc/prometheus/rules.yml"
