"""The real Prometheus reads a real API and a real worker, and answers what dashboard and rules ask.

One stack is watched from its first job to its end: it does some work, then it is broken in one way after another.
"""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import S3Settings
from tests.faulty_proxy import Fault, Mode
from tests.integration.conftest import CALLS, NewSettings
from tests.integration.watched_stack import (
    SCRAPED_SECONDS,
    STALLED_SECONDS,
    TOKEN,
    WatchedStack,
    families,
    running_watched_stack,
    samples,
)
from tests.integration.worker_process import kill
from tests.monitoring.prometheus_server import DEPLOY, promtool, rules
from tests.servers import wait_until
from warmline.jobs.queue import QUEUES, make_celery
from warmline.jobs.records import JobStatus, Source
from warmline.objects.store import ObjectStore

DASHBOARD = DEPLOY / "grafana" / "dashboards" / "warmline.json"
GUIDE = (DEPLOY.parent / "docs" / "monitoring.md").read_text()
LIVE, BULK, BROKEN = 3, 2, 12  # jobs of each kind; the last ones have no audio
CALL_SECONDS = 24.0
# As Grafana fills them in when everything is chosen.
VARIABLES = {"$namespace": ".*", "$worker": ".*", "$lane": ".*", "$__rate_interval": "15s"}
# A limit that Redis does not have, and attempts that nobody had to repeat.
EMPTY_RECORDS = {"fleet:warmline_redis_memory:ratio", "fleet:warmline_retries:ratio_rate15m"}
EMPTY_WHEN_WELL = {"Alerts that fire", "Retries, by code"}


@pytest.fixture(scope="module")
def stack(
    worker_settings: NewSettings, s3_settings: S3Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WatchedStack]:
    """The stack, when it has done some work."""
    directory = tmp_path_factory.mktemp("watched")
    with running_watched_stack(directory, worker_settings, s3_settings) as stack:
        do_some_work(stack, directory)
        yield stack


def do_some_work(stack: WatchedStack, directory: Path) -> None:
    """Jobs that succeed, in both lanes, others that fail, and requests to the API: Prometheus has seen all."""
    garbage = directory / "garbage.wav"
    garbage.write_bytes(b"this is no audio" * 100)
    store = ObjectStore(stack.settings.s3)
    call = store.put_call("calls", "watched/call.wav", CALLS / "call-001-billing.wav")
    broken = store.put_call("calls", "watched/garbage.wav", garbage)
    store.close()
    # A rate sees every job, the first one too: the series of each code is there before, at 0, in both lanes.
    stack.wait_seen('count(warmline_jobs_total{code="not_audio"} == 0)', lambda n: n == 2, "none has failed")
    jobs = [stack.submit(call) for _ in range(LIVE)]
    jobs += [stack.submit(call, "bulk") for _ in range(BULK)]
    jobs += [stack.submit(broken, "bulk") for _ in range(BROKEN)]
    for job in jobs:
        stack.worker.wait_finished(job)
        assert stack.get(f"{stack.api.url}/v1/jobs/{job}").status_code == 200
    wait_until(lambda: len(stack.receiver.taken) == len(jobs), "the receiver was told of all jobs")
    for expr, wanted in (
        ("sum(warmline_jobs_total)", len(jobs)),
        ("sum(warmline_jobs_ended_total)", len(jobs)),
        ("sum(warmline_queue_jobs)", 0),
        ('sum(warmline_http_requests_total{route="/v1/jobs/{job_id}"})', len(jobs)),
        ('sum(warmline_webhook_attempts_total{outcome="delivered"})', len(jobs)),
    ):
        stack.wait_seen(expr, lambda seen, wanted=wanted: seen == wanted, f"{expr} is {wanted}")  # type: ignore[misc]


def test_the_figures_are_those_of_the_work_that_was_done(stack: WatchedStack) -> None:
    for lane, outcome, jobs in (
        ("live", "succeeded", LIVE),
        ("bulk", "succeeded", BULK),
        ("bulk", "failed", BROKEN),
    ):
        assert stack.prometheus.number(f'sum(warmline_jobs_total{{lane="{lane}", outcome="{outcome}"}})') == jobs
    assert stack.prometheus.number('sum(warmline_jobs_total{outcome="failed", code="not_audio"})') == BROKEN
    grown = stack.prometheus.number('sum(increase(warmline_jobs_total{code="not_audio"}[10m]))')
    assert grown > BROKEN - 0.5  # reckoned beyond what was seen, and not one too few
    calls = LIVE + BULK
    assert stack.prometheus.number("warmline_audio_seconds_total") == pytest.approx(CALL_SECONDS * calls, rel=0.02)
    assert 0 < stack.prometheus.number("warmline_speech_seconds_total") < 2 * CALL_SECONDS * calls
    assert stack.prometheus.number("sum(warmline_rtfx_count)") == calls
    assert stack.prometheus.number("warmline_model_load_seconds_count") == 1
    assert stack.prometheus.number('warmline_jobs_ended_total{status="succeeded"}') == calls
    assert stack.prometheus.number("sum(warmline_queue_jobs)") == 0
    assert stack.prometheus.number('warmline_worker_children{state="warm"}') == 1
    assert stack.prometheus.number('sum(warmline_s3_requests_total{operation="GetObject", outcome="ok"})') >= calls
    requests = 'warmline_http_requests_total{method="GET", route="/v1/jobs/{job_id}", status="200"}'
    assert stack.prometheus.number(requests) == LIVE + BULK + BROKEN


def test_promtool_finds_nothing_to_object_to(stack: WatchedStack) -> None:
    for page in stack.metrics_pages().values():
        assert promtool("check", "metrics", stdin=page) == ""


def test_no_label_says_whose_call_it_is(stack: WatchedStack) -> None:
    for page in stack.metrics_pages().values():
        for name, labels in samples(page):
            assert not labels.keys() & {
                "id",
                "job_id",
                "batch_id",
                "key",
                "bucket",
                "uri",
                "url",
                "worker",
                "child",
            }
            text = " ".join(labels.values())
            assert not re.search(r"[0-9a-f]{16}|calls|watched|127\.0\.0\.1|s3:", text), (name, labels)


def test_an_address_that_there_is_not_adds_one_series_whatever_it_is(stack: WatchedStack) -> None:
    for i in range(5):
        stack.get(f"{stack.api.url}/no/such/place/{i}")
        stack.prometheus.client.request(f"ODD{i}", f"{stack.api.url}/live")
    page = stack.metrics_pages()["api"]
    assert "such" not in page
    assert "ODD" not in page


def test_metrics_are_for_those_who_have_the_token(stack: WatchedStack) -> None:
    url = f"http://127.0.0.1:{stack.settings.metrics.port}/metrics"
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        assert stack.get(url, **headers).status_code == 401


def test_every_name_in_rules_and_dashboard_is_a_metric(stack: WatchedStack) -> None:
    known = {name for page in stack.metrics_pages().values() for name in families(page)}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = [rule["expr"] for rule in rules()] + [
        query["expr"] for panel in panels() for query in panel["targets"]
    ]
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    asked += [each["query"]["query"] for each in variables if each["type"] == "query"]
    for text in asked:
        for name in re.findall(r"(?<![\w:])(?:fleet:)?warmline_\w+(?::\w+)?", text):
            assert name in recorded or re.sub(r"_(bucket|sum|count)$", "", name) in known, name


def test_every_metric_is_on_the_dashboard_or_in_a_rule(stack: WatchedStack) -> None:
    asked = " ".join(questions())
    for page in stack.metrics_pages().values():
        for name in families(page):
            assert name in asked, name


def test_the_guide_tells_of_every_metric_as_it_is(stack: WatchedStack) -> None:
    told = {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(r"^\| `(warmline_\w+)` \| (\w+) \|([^|]*)\|", GUIDE, re.MULTILINE)
    }
    pages = stack.metrics_pages().values()
    kinds = {name: kind for page in pages for name, kind in families(page).items()}
    labels: dict[str, set[str]] = {name: set() for name in kinds}
    for page in pages:
        for name, of_series in samples(page):
            family = name if name in kinds else re.sub(r"_(bucket|sum|count)$", "", name)
            labels[family] |= of_series.keys() - {"le"}
    assert told == {name: (kind, labels[name]) for name, kind in kinds.items()}


def test_the_guides_questions_have_answers(stack: WatchedStack) -> None:
    examples = re.findall(r"```promql\n(.*?)```", GUIDE, re.DOTALL)
    assert len(examples) >= 5
    for example in examples:

        def answered(asked: str = example) -> bool:
            figures = [float(series["value"][1]) for series in stack.prometheus.ask(asked)]
            return bool(figures) and all(math.isfinite(figure) for figure in figures)

        wait_until(answered, f"{example} has an answer", seconds=SCRAPED_SECONDS, interval_seconds=0.2)


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels that ask something."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def questions() -> list[str]:
    """All that rules and panels ask."""
    return [rule["expr"] for rule in rules()] + [query["expr"] for panel in panels() for query in panel["targets"]]


def filled_in(expr: str) -> str:
    """A panel's query as Grafana would send it."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_panel_shows_something(stack: WatchedStack, panel: dict[str, Any]) -> None:
    for query in panel["targets"]:
        answer = stack.prometheus.ask_range(filled_in(query["expr"]), since=stack.began)
        figures = [float(value) for series in answer for _, value in series["values"]]
        if panel["title"] in EMPTY_WHEN_WELL:
            continue
        if "limit_bytes" in query["expr"]:  # the tests' Redis has none
            assert figures == []
            continue
        assert any(math.isfinite(figure) for figure in figures), query["expr"]
        assert all(figure >= 0 for figure in figures if math.isfinite(figure)), query["expr"]
        for label in re.findall(r"\{\{(\w+)\}\}", query.get("legendFormat", "")):
            assert label == "namespace" or all(label in series["metric"] for series in answer), query["expr"]


def test_recorded_figures_are_there(stack: WatchedStack) -> None:
    wanted = {rule["record"] for rule in rules() if "record" in rule} - EMPTY_RECORDS
    there = set[str]()

    def all_there() -> bool:
        found = stack.prometheus.ask('count by (__name__) ({__name__=~"fleet:.*"})')
        there.update(series["metric"]["__name__"] for series in found)
        return wanted <= there

    wait_until(all_there, f"there are {sorted(wanted)}", seconds=SCRAPED_SECONDS, interval_seconds=0.2)
    assert wanted <= there, sorted(wanted - there)


def test_jobs_that_fail_are_told(stack: WatchedStack) -> None:
    stack.wait_alert("WarmlineMostJobsFail")
    stack.wait_alert("WarmlineJobsFail")
    assert not {"WarmlineApiDown", "WarmlineRedisDown", "WarmlineNoWarmWorker"} & stack.prometheus.alerts().keys()


# From here on it is broken, in one way after another; each is mended again but for the last ones.


def test_a_webhook_that_is_given_up_is_told(stack: WatchedStack) -> None:
    stack.receiver.status = 500
    stack.submit(Source(bucket="calls", key="watched/call.wav"))
    stack.wait_seen(
        'sum(warmline_webhook_attempts_total{outcome="given_up"})',
        lambda given_up: given_up == 1,
        "one is given up",
    )
    stack.wait_alert("WarmlineWebhooksGivenUp")
    stack.receiver.status = 200


def test_a_store_that_throttles_is_told(stack: WatchedStack) -> None:
    before = stack.prometheus.number('sum(warmline_s3_requests_total{outcome="throttled"})')
    with stack.proxy.failing(Fault(mode=Mode.THROTTLE)):
        job = stack.submit(Source(bucket="calls", key="watched/call.wav"))
        stack.wait_seen(
            'sum(warmline_s3_requests_total{outcome="throttled"})',
            lambda now: now > before,
            "a request is throttled",
        )
        stack.wait_alert("WarmlineS3Errors")
    assert stack.worker.wait_finished(job).status is JobStatus.SUCCEEDED


def test_a_worker_that_takes_nothing_is_told(stack: WatchedStack) -> None:
    stack.wait_no_alert("WarmlineWorkerStalled")  # a child that waits for the store is stalled, too
    celery = make_celery(stack.settings)
    celery.control.cancel_consumer(QUEUES["live"])
    job = stack.submit(Source(bucket="calls", key="watched/call.wav"))
    stack.wait_alert("WarmlineWorkerStalled")
    assert stack.prometheus.number('warmline_workers{condition="stalled"}') == 1
    assert stack.prometheus.number('warmline_queue_oldest_seconds{lane="live"}') >= STALLED_SECONDS
    celery.control.add_consumer(QUEUES["live"])
    celery.close()
    assert stack.worker.wait_finished(job).status is JobStatus.SUCCEEDED
    stack.wait_no_alert("WarmlineWorkerStalled")


def test_a_worker_that_stands_still_is_told(stack: WatchedStack) -> None:
    stack.worker.signal(signal.SIGSTOP)
    stack.wait_alert("WarmlineWorkerMissing")
    stack.wait_alert("WarmlineScrapeFailing")
    stack.worker.signal(signal.SIGCONT)
    stack.wait_no_alert("WarmlineWorkerMissing")
    stack.wait_no_alert("WarmlineScrapeFailing")


def test_a_job_that_kills_children_is_told(stack: WatchedStack, long_call: Source) -> None:
    job = stack.submit(long_call, "bulk")
    for attempt in (1, 2, 3):
        kill(stack.worker.wait_running(job, attempt=attempt))
    assert stack.worker.wait_finished(job).status is JobStatus.DEAD
    stack.wait_alert("WarmlineDeadLetters")
    stack.wait_alert("WarmlineWorkerLooping")
    stack.wait_seen("sum(warmline_child_respawns_total)", lambda respawns: respawns == 3, "three respawns")
    assert stack.prometheus.number("sum(warmline_jobs_lost_total)") == 3
    assert stack.prometheus.number('warmline_attempts_ended_total{outcome="lost"}') == 3


def test_a_worker_that_is_gone_is_told(stack: WatchedStack) -> None:
    stack.worker.process.kill()
    stack.submit(Source(bucket="calls", key="watched/call.wav"))
    stack.wait_alert("WarmlineNoWarmWorker")
    stack.wait_seen('sum(up{job="warmline-worker"})', lambda up: up == 0, "the worker is not scraped")


def test_a_redis_that_is_gone_is_told_and_nothing_is_made_up(stack: WatchedStack) -> None:
    stack.stop_redis()
    stack.wait_alert("WarmlineRedisDown")
    stack.wait_no_alert("WarmlineNoWarmWorker")
    page = families(stack.metrics_page(stack.api.url))
    assert page.keys() & {"warmline_queue_jobs", "warmline_workers", "warmline_dead_letters"} == set()


def test_an_api_that_is_gone_is_told(stack: WatchedStack) -> None:
    stack.api.process.kill()
    stack.wait_alert("WarmlineApiDown")
