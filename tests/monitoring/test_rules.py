"""The rules and the configuration of Prometheus, held by its own tool."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from config.settings import WorkerSettings
from tests.monitoring.prometheus_server import PROMETHEUS, alerts, promtool
from tests.test_guides import anchors
from warmline.jobs.conditions import Condition
from warmline.jobs.errors import WarmlineError
from workers.readiness import WATCH_SECONDS

ROOT = Path(__file__).parents[2]
RULE_TESTS = ("rules_seconds_test.yml", "rules_test.yml", "rules_hours_test.yml")
# Who hangs, loops or is silent is reported within these, by the settings' defaults.
REPORTED_SECONDS = 90
EVALUATED_SECONDS = {"5s": 5, "15s": 15}


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus.hosts.yml"])
def test_prometheus_takes_the_configuration(name: str, tmp_path: Path) -> None:
    here = tmp_path / "prometheus"
    shutil.copytree(PROMETHEUS, here)
    text = (here / name).read_text().replace("/run/secrets/metrics_token", "metrics_token")
    (here / name).write_text(text)
    (here / "metrics_token").write_text("secret")
    said = promtool("check", "config", "--lint=all", "--lint-fatal", name, directory=here)
    assert f"{len(alerts())} " in said or "rules found" in said


def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yml")


@pytest.mark.parametrize("name", RULE_TESTS)
def test_alerts_fire_and_keep_still(name: str) -> None:
    assert "SUCCESS" in promtool("test", "rules", name)


def test_every_alert_is_seen_to_fire_and_to_keep_still() -> None:
    fired, still = set[str](), set[str]()
    for file in RULE_TESTS:
        for test in yaml.safe_load((PROMETHEUS / file).read_text())["tests"]:
            expected = [
                {
                    name
                    for sample in each["exp_samples"]
                    for name in re.findall(r'alertname="(\w+)"', sample["labels"])
                }
                for each in test["promql_expr_test"]
                if "ALERTS" in each["expr"]
            ]
            fired |= set().union(*expected)
            if any(not names for names in expected):  # the same series, a little less of it
                still |= set().union(*expected)
    assert alerts().keys() - fired == set()
    assert alerts().keys() - still == set()


@pytest.mark.parametrize("name", sorted(alerts()))
def test_an_alert_says_what_to_do(name: str) -> None:
    alert = alerts()[name]
    assert name.startswith("Warmline")
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert anchor == name.lower()
    assert anchor in anchors(ROOT / page)


def test_who_hangs_loops_or_is_silent_is_reported_within_90_seconds() -> None:
    worker = WorkerSettings()
    beats = 3 * worker.heartbeat_seconds  # without a beat for so long it is silent
    before = {
        "WarmlineWorkerStalled": worker.stalled_seconds + worker.heartbeat_seconds,
        "WarmlineWorkerLooping": beats,
        "WarmlineWorkerMissing": beats,
        "WarmlineNoWarmWorker": beats,
        "WarmlineWorkerWedged": 60 + WATCH_SECONDS,
        "WarmlineRedisDown": 0,
        "WarmlineApiDown": 10,  # the scrape's own limit
    }
    scrape = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]["scrape_interval"]
    for name, seconds in before.items():
        alert = alerts()[name]
        waits = int(alert.get("for", "0s").rstrip("s"))
        total = seconds + int(scrape.rstrip("s")) + EVALUATED_SECONDS[alert["interval"]] + waits
        assert total <= REPORTED_SECONDS, f"{name} takes {total:g} s"


def test_the_alerts_know_every_condition_that_is_not_well() -> None:
    asked = {name for alert in alerts().values() for name in re.findall(r'condition="(\w+)"', alert["expr"])}
    assert {each.value for each in Condition if not each.is_well} <= asked
    assert asked <= {each.value for each in Condition}


def test_the_example_for_alertmanager_knows_the_alerts() -> None:
    text = (PROMETHEUS / "alertmanager.yml").read_text()
    assert set(re.findall(r"Warmline\w+", text)) - {"Warmline"} <= alerts().keys()
    route = yaml.safe_load(text)["route"]
    severities = {alert["labels"]["severity"] for alert in alerts().values()}
    for child in route["routes"]:
        (severity,) = re.findall(r'severity="(\w+)"', child["matchers"][0])
        assert severity in severities


def test_the_guide_explains_codes_that_there_are() -> None:
    table = (
        (ROOT / "docs" / "monitoring.md")
        .read_text()
        .partition("| code | whose business |")[2]
        .partition("\n\n")[0]
    )
    told = set(re.findall(r"`([a-z_]+)`", table))
    assert told <= codes_of(WarmlineError)
    assert {"not_audio", "object_not_found", "worker_lost", "store_unavailable"} <= told


def codes_of(kind: type[WarmlineError]) -> set[str]:
    return {kind.code}.union(*(codes_of(child) for child in kind.__subclasses__()))
