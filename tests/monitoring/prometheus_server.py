"""The real Prometheus and promtool (Debian's package `prometheus`): one that watches what a test runs."""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.ports import choose_port
from tests.servers import running, skip_or_fail

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
SCRAPE_SECONDS = 1


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; without it the test is skipped, or fails under CI."""
    return shutil.which(name) or skip_or_fail(f"{name} is not installed: apt-get install prometheus")


def promtool(*arguments: str | Path, stdin: str = "", directory: Path = PROMETHEUS) -> str:
    """What promtool prints; fails the test with it when promtool objects."""
    command = [program("promtool"), *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=directory, check=False)
    said = f"{done.stdout}{done.stderr}"
    assert done.returncode == 0, said
    return said


def rules() -> Iterator[dict[str, Any]]:
    """Every rule of rules.yml, with its group's interval."""
    for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield {**rule, "group": group["name"], "interval": group["interval"]}


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """A running one."""

    url: str
    client: httpx.Client

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """The instant vector: a list of {"metric": labels, "value": [time, text]}. Fails on a wrong query."""
        answer = self.client.get(f"{self.url}/api/v1/query", params={"query": expr}).json()
        assert answer["status"] == "success", f"{expr}: {answer.get('error')}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def ask_range(self, expr: str, *, since: float) -> list[dict[str, Any]]:
        """The same over time, a figure a second since that moment: "values" in place of "value"."""
        asked = {"query": expr, "start": since, "end": time.time(), "step": 1}
        answer = self.client.get(f"{self.url}/api/v1/query_range", params=asked).json()
        assert answer["status"] == "success", f"{expr}: {answer.get('error')}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def number(self, expr: str) -> float:
        """The one figure that is asked for; NaN where there is none."""
        found = self.ask(expr)
        assert len(found) <= 1, f"{expr} has {len(found)} answers"
        return float(found[0]["value"][1]) if found else math.nan

    def alerts(self) -> dict[str, str]:
        """The alerts that are pending or firing: name -> state. Fails on a sentence that could not be written."""
        answer = self.client.get(f"{self.url}/api/v1/alerts").json()
        found = answer["data"]["alerts"]
        wrong = [each for each in found if "<error" in str(each["annotations"])]
        assert wrong == [], wrong
        return {each["labels"]["alertname"]: each["state"] for each in found}


@contextmanager
def running_prometheus(directory: Path, targets: Mapping[str, Sequence[str]], token: str) -> Iterator[Prometheus]:
    """Prometheus with our configuration for hosts and our rules, but quicker: a scrape a second, no `for`.

    `targets`: the addresses of each job. The files are copied, and what says how long is all that is changed.
    """
    directory.mkdir(exist_ok=True)
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.hosts.yml").read_text())
    configuration["global"] = dict.fromkeys(
        ("scrape_interval", "scrape_timeout", "evaluation_interval"), f"{SCRAPE_SECONDS}s"
    )
    for job in configuration["scrape_configs"]:
        job["file_sd_configs"][0]["refresh_interval"] = "1s"
        file = directory / job["file_sd_configs"][0]["files"][0]
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump([{"targets": list(targets[job["job_name"]])}]))
    quick = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    for group in quick["groups"]:
        group["interval"] = f"{SCRAPE_SECONDS}s"
        for rule in group["rules"]:
            rule.pop("for", None)
    (directory / "rules.yml").write_text(yaml.safe_dump(quick))
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    (directory / "metrics_token").write_text(token)
    port = choose_port()
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return client.get(f"{url}/-/ready").is_success
        except httpx.TransportError:
            return False

    command = [
        program("prometheus"),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        httpx.Client(trust_env=False, timeout=60) as client,
        running(command, directory / "prometheus.log", answers, directory=directory) as process,
    ):
        yield Prometheus(url=url, client=client)
        process.kill()  # what it has written is for nobody
