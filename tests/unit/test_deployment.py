"""What is deployed by hand, and what docs/deploy.md reckons with: in step with settings and measurements."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.capacity import (
    BUSY,
    CALL_SECONDS,
    GPU,
    MEASURED,
    calls_a_day,
    machines_for,
    price_of_1000_hours,
    redis_bytes,
    requests_price,
    rtfx_that_pays,
    workers_table,
)
from config.settings import Settings, known_variables, secret_files

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
GUIDE = (ROOT / "docs" / "deploy.md").read_text()
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
HAND_BACK_SECONDS = 30  # beyond the grace period (docs/workers.md)


def values(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


def as_prose(text: str) -> str:
    """Without line breaks."""
    return re.sub(r"\s+", " ", text)


# systemd


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_sets_what_there_is_and_mounts_every_secret_that_it_names(unit: Path) -> None:
    known = known_variables().keys() | secret_files().keys()
    given = dict(entry.split("=", 1) for entry in values(unit, "Environment"))
    assert {name for name in given if name.startswith("WARMLINE_")} <= known
    credentials = {entry.partition(":")[0] for entry in values(unit, "LoadCredential")}
    assert {value.removeprefix("%d/") for name, value in given.items() if name.endswith("_FILE")} == credentials
    assert values(unit, "DynamicUser") == ["yes"]
    assert values(unit, "ProtectSystem") == ["strict"]


def test_a_worker_has_the_time_to_hand_back_what_it_cannot_end() -> None:
    (seconds,) = values(DEPLOY / "systemd" / "warmline-worker.service", "TimeoutStopSec")
    assert int(seconds) >= Settings().worker.grace_seconds + HAND_BACK_SECONDS
    compose = yaml.safe_load((DEPLOY / "compose" / "worker.yml").read_text())["services"]["worker"]
    assert int(compose["stop_grace_period"].rstrip("s")) >= Settings().worker.grace_seconds + HAND_BACK_SECONDS


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze")
    for unit in UNITS:  # it looks whether the programs are there
        text = unit.read_text().replace("/opt/warmline/.venv/bin/", f"{Path(sys.executable).parent}/")
        (tmp_path / unit.name).write_text(text)
        found = subprocess.run(
            [analyze, "verify", str(tmp_path / unit.name)], check=False, capture_output=True, text=True, timeout=60
        )
        assert (found.returncode, found.stderr) == (0, "")


# Compose on a host of its own


def test_the_compose_file_of_a_lone_worker_sets_what_there_is() -> None:
    document = yaml.safe_load((DEPLOY / "compose" / "worker.yml").read_text())
    worker = document["services"]["worker"]
    assert worker["environment"].keys() <= known_variables().keys() | secret_files().keys()
    files = {f"/run/secrets/{name}" for name in worker["secrets"]}
    assert {value for name, value in worker["environment"].items() if name.endswith("_FILE")} == files
    assert set(worker["secrets"]) == set(document["secrets"])
    whole = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert set(worker["secrets"]) <= set(whole["secrets"])  # the first host's files are of use here
    same = ("read_only", "cap_drop", "security_opt", "user", "healthcheck")
    for key in (*same, "restart", "init", "logging", "pids_limit", "tmpfs", "stop_grace_period"):
        assert worker[key] == whole["services"]["worker"][key], key


# The guide's figures


def test_the_guides_table_of_workers_is_what_the_arithmetic_says() -> None:
    assert workers_table(MEASURED) in GUIDE
    assert f"calls of {CALL_SECONDS:g} s" in as_prose(GUIDE)
    assert f"work {BUSY:.0%} of the day".replace("%", " %") in as_prose(GUIDE)


def test_the_guide_reckons_with_what_was_measured() -> None:
    (file,) = (ROOT / "benchmarks" / "results").glob("*-ledger-memory.json")
    found = json.loads(file.read_text())["ledger_memory"]
    each = {entry["what"]: entry["used_bytes"] / entry["jobs"] for entry in found}
    for what, size in each.items():
        assert f"| {what} | {size:,.0f} | {size / 1000:,.2f} GB |" in GUIDE
    waiting, ended = each["waiting, submitted in batches"], each["ended, submitted in batches, report in S3"]
    total = redis_bytes(100_000, waiting_days=1, kept_days=7, waiting_each=waiting, ended_each=ended)
    assert f"= {total / 1e9:.2f} GB." in GUIDE
    kept = each["ended, submitted in batches, report in S3 and Redis"]
    total = redis_bytes(100_000, waiting_days=1, kept_days=7, waiting_each=waiting, ended_each=kept)
    assert f"as well: {total / 1e9:.1f} GB." in as_prose(GUIDE)
    # Rows 4 and 9 of the benchmark's table.
    performance = (ROOT / "docs" / "performance.md").read_text()
    assert re.search(rf"^\| 4 \|.*\| {MEASURED[0].rtfx:g} \|", performance, re.MULTILINE)
    assert re.search(rf"^\| 9 \|.*\| {MEASURED[1].rtfx:g} x real time \|", performance, re.MULTILINE)
    assert f"${requests_price(1_000_000, heads=1, gets=1, puts=1):.2f} at AWS" in as_prose(GUIDE)
    assert GPU.price is not None
    assert f"an RTFx of {rtfx_that_pays(GPU.price, MEASURED[0]):.0f} on" in as_prose(GUIDE)


def test_the_guide_builds_the_version_that_the_manifests_ask_for() -> None:
    versions = set(re.findall(r"\bwarmline-(?:api|worker):([\w.]+)", GUIDE))
    assert versions == {importlib.metadata.version("warmline")}


def test_the_arithmetic() -> None:
    # A machine as fast as the calls, always busy, is done with a day of calls in a day.
    assert calls_a_day(1.0, call_seconds=60, busy=1.0) == 1440
    assert machines_for(1441, 1.0, call_seconds=60, busy=1.0) == 2
    assert price_of_1000_hours(10.0, 0.5, busy=0.5) == pytest.approx(100.0)
