"""What the dashboard shows, row by row, from whether it is well to why not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from panels import (
    BYTES,
    PER_MINUTE,
    PER_SECOND,
    PERCENT,
    SECONDS,
    TIMES,
    Look,
    as_heatmap,
    as_table,
    heat,
    lines,
    number,
    query,
    rows,
)
from promql import NL, STEP, WL, N, W, fleet, fleet_rate, mean, quantile, rate, share

ALERTS = f'ALERTS{{alertname=~"Warmline.*", alertstate="firing", {N}}}'
FAILED = f'{WL}, outcome=~"failed|dead"'
ENDED = f'{WL}, outcome=~"succeeded|failed|dead"'
LEFT = f'{NL}, outcome=~"succeeded|failed|cancelled|dead"'
OF_TARGETS = ("Value", "job", "endpoint", "container", "service", "pod")  # columns that nobody reads


def glance(title: str, description: str, unit: str = "short") -> Look:
    """One of eight figures in a line."""
    return Look(title, description, unit, columns=3, rows=4)


def half(title: str, description: str, unit: str = "short") -> Look:
    """One of two in a line."""
    return Look(title, description, unit, columns=12)


def wide(title: str, description: str) -> Look:
    """A table that needs all columns."""
    return Look(title, description, columns=24, rows=6)


def is_it_well() -> Iterable[Any]:
    """The row that is read first."""
    yield number(
        glance("Alerts", "Rules of deploy/prometheus/rules.yml that fire now. 0: all is well."),
        query(f"count({ALERTS}) or vector(0)"),
        bad_from=1,
    )
    yield number(
        glance("Redis", "Whether the API reaches Redis. Without it nothing is accepted."),
        query(f"max(warmline_redis_up{{{N}}})"),
        words={"1": "up", "0": "DOWN"},
    )
    yield number(
        glance("Warm children", "Children that can take a job now, and those there should be."),
        query(fleet("warmline_worker_children", f'{N}, state="warm"'), "warm"),
        query(fleet("warmline_worker_children", f'{N}, state="planned"'), "planned"),
    )
    yield number(
        glance("Workers not well", "Stalled, looping or missing ones; GET /v1/workers names them."),
        query(f'sum({fleet("warmline_workers", f"""{N}, condition=~"stalled|looping|missing" """, "condition")})'),
        bad_from=1,
    )
    yield number(
        glance("Jobs waiting", "Jobs that a free child would take at once."),
        query(f"sum({fleet('warmline_queue_jobs', NL, 'lane')})"),
    )
    yield number(
        glance("Oldest live job", "How long the oldest live job has waited. Somebody waits for it.", SECONDS),
        query(f'max(warmline_queue_oldest_seconds{{{N}, lane="live"}})'),
        bad_from=60,
    )
    yield number(
        glance("Calls an hour", "Calls analysed, at the pace of the last five minutes."),
        query("3600 * " + rate("warmline_jobs_total", f'{N}, outcome="succeeded"', over="5m")),
    )
    yield number(
        glance("Dead letters", "Jobs given up, which can be replayed."),
        query(fleet("warmline_dead_letters")),
        bad_from=1,
    )
    yield rows(
        wide("Alerts that fire", "Each has a section in docs/monitoring.md that says what to do."),
        as_table(ALERTS),
        hidden=("alertstate", *OF_TARGETS),
        names={
            "alertname": "Alert",
            "severity": "Severity",
            "instance": "Instance",
            "code": "Code",
            "lane": "Lane",
        },
        empty="none fires",
    )


def queue() -> Iterable[Any]:
    """What is to be done."""
    yield lines(
        Look("Jobs waiting, by lane", "What a free child would take at once; retry: of both lanes, due again."),
        query(fleet("warmline_queue_jobs", NL, "lane"), "{{lane}}"),
        stacked=True,
    )
    yield lines(
        Look("Age of the oldest job", "How long the oldest job that waits has waited, by lane.", SECONDS),
        query(f"max by (lane) (warmline_queue_oldest_seconds{{{NL}}})", "{{lane}}"),
    )
    yield lines(
        Look(
            "Time until the queue is empty",
            "Waiting jobs over the pace of the last 15 minutes. No line: none wait, or none ends.",
            SECONDS,
        ),
        query(
            f"{fleet('warmline_queue_jobs', NL, 'lane')} "
            f"/ ({rate('warmline_jobs_total', LEFT, 'lane', over='15m')} > 0)",
            "{{lane}}",
        ),
    )
    yield lines(
        Look("Jobs running, by lane", "Jobs that a child works on."),
        query(fleet("warmline_running_jobs", NL, "lane"), "{{lane}}"),
        stacked=True,
    )
    yield lines(
        Look(
            "Wait for a child", "From acceptance to the first claim: median, and what one in 20 exceeds.", SECONDS
        ),
        query(quantile(0.5, "warmline_job_wait_seconds", WL, "lane"), "{{lane}} median"),
        query(quantile(0.95, "warmline_job_wait_seconds", WL, "lane"), "{{lane}} p95"),
    )
    yield lines(
        Look("Jobs that wait for their time", "delayed: for their next attempt; held: by their trigger's pace."),
        query(fleet("warmline_delayed_jobs"), "delayed"),
        query(fleet("warmline_held_jobs"), "held"),
        query(fleet("warmline_dead_letters"), "dead letters"),
    )


def work() -> Iterable[Any]:
    """What becomes of jobs."""
    yield lines(
        Look(
            "Attempts, by outcome", "A minute. retried: failed for a passing reason, and comes again.", PER_MINUTE
        ),
        query("60 * " + rate("warmline_jobs_total", WL, "outcome"), "{{outcome}}"),
        stacked=True,
    )
    yield lines(
        Look(
            "Failures, by code",
            "Failed and dead jobs a minute; docs/monitoring.md explains the codes.",
            PER_MINUTE,
        ),
        query("60 * " + rate("warmline_jobs_total", f'{FAILED}, code!=""', "code") + " > 0", "{{code}}"),
        stacked=True,
    )
    yield lines(
        Look("Share of jobs that fail", "Of the jobs that ended in the last 15 minutes.", PERCENT),
        query(share("warmline_jobs_total", FAILED, ENDED, "lane"), "{{lane}}"),
    )
    yield lines(
        Look("Retries, by code", "Attempts a minute that failed for a passing reason.", PER_MINUTE),
        query("60 * " + rate("warmline_jobs_total", f'{WL}, outcome="retried"', "code") + " > 0", "{{code}}"),
    )
    yield lines(
        Look("Jobs ended, as Redis counts", "A minute, by status; of workers that are gone, too.", PER_MINUTE),
        query("60 * " + fleet_rate("warmline_jobs_ended_total", "status"), "{{status}}"),
        stacked=True,
    )
    yield lines(
        Look("Attempts, as Redis counts", "A minute, by outcome. lost: the worker was not heard of.", PER_MINUTE),
        query("60 * " + fleet_rate("warmline_attempts_ended_total", "outcome"), "{{outcome}}"),
    )


def speed() -> Iterable[Any]:
    """How fast, and where the time goes."""
    yield lines(
        Look("RTFx of the fleet", "Seconds of calls that are analysed in a second, by all workers.", TIMES),
        query(rate("warmline_audio_seconds_total", W), "fleet"),
    )
    yield lines(
        Look("RTFx of a call", "A call's seconds per second of its analysis: median, slowest tenth.", TIMES),
        query(quantile(0.5, "warmline_rtfx", W), "median"),
        query(quantile(0.1, "warmline_rtfx", W), "slowest tenth"),
    )
    yield lines(
        Look("Audio hours an hour", "Hours of calls, and of speech in all their channels, analysed in an hour."),
        query(rate("warmline_audio_seconds_total", W, over="5m"), "calls"),
        query(rate("warmline_speech_seconds_total", W, over="5m"), "speech"),
    )
    yield lines(
        Look(
            "Mean seconds of a call's stages", "decode and speech run beside score: they do not add up.", SECONDS
        ),
        query(mean("warmline_stage_seconds", W, "stage"), "{{stage}}"),
    )
    yield lines(
        Look("Seconds of a job", "From its claim to its end: median, and what one in 20 exceeds.", SECONDS),
        query(quantile(0.5, "warmline_job_seconds", WL, "lane"), "{{lane}} median"),
        query(quantile(0.95, "warmline_job_seconds", WL, "lane"), "{{lane}} p95"),
    )
    yield lines(
        Look("Where the wall time goes", "Seconds of each stage in a second, all children together.", SECONDS),
        query(rate("warmline_stage_seconds_sum", W, "stage"), "{{stage}}"),
        stacked=True,
    )
    yield heat(
        half("Seconds of scoring", "How many calls took how long; the tooltip has figures.", SECONDS),
        as_heatmap(f'sum by (le) (increase(warmline_stage_seconds_bucket{{{W}, stage="score"}}[{STEP}]))'),
    )
    yield heat(
        half("Seconds of jobs", "How many jobs took how long; the tooltip has figures.", SECONDS),
        as_heatmap(f"sum by (le) (increase(warmline_job_seconds_bucket{{{WL}}}[{STEP}]))"),
    )


def workers() -> Iterable[Any]:
    """Who does it."""
    yield lines(
        Look("Workers, by condition", "stalled takes no jobs, looping loses its children, missing fell silent."),
        query(fleet("warmline_workers", N, "condition"), "{{condition}}"),
        stacked=True,
    )
    yield lines(
        Look("Children", "Planned, warm and busy ones of the whole fleet."),
        query(fleet("warmline_worker_children", N, "state"), "{{state}}"),
    )
    yield lines(
        Look("Children, by worker", "Fewer warm than planned: one loads, or does not get warm."),
        query(f"warmline_planned_children{{{W}}}", "{{instance}} planned"),
        query(f"warmline_warm_children{{{W}}}", "{{instance}} warm"),
        query(f"warmline_busy_children{{{W}}}", "{{instance}} busy"),
    )
    yield lines(
        Look("Losses in 15 minutes", "Children replaced; jobs whose child died; attempts that another overtook."),
        *(
            query(f"sum(increase(warmline_{metric}{{{W}}}[15m]))", name)
            for metric, name in (
                ("child_respawns_total", "children replaced"),
                ("jobs_lost_total", "jobs lost"),
                ("leases_lost_total", "leases lost"),
                ("observations_dropped_total", "observations not counted"),
            )
        ),
    )
    yield lines(
        Look("Seconds to load the model", "A worker's mean since it started, from fork to warm.", SECONDS),
        query(
            f"warmline_model_load_seconds_sum{{{W}}} / (warmline_model_load_seconds_count{{{W}}} > 0)",
            "{{instance}}",
        ),
    )
    yield lines(
        Look("Event loop's last turn", "How long ago it was: about a second. More: the worker hangs.", SECONDS),
        query(f"warmline_worker_last_turn_seconds{{{W}}}", "{{instance}}"),
    )
    yield rows(
        wide("Versions and models", "What is warm, by worker. Reports depend on the model: all should have one."),
        as_table(f"warmline_worker_info{{{W}}}"),
        hidden=OF_TARGETS,
        names={
            label: label.capitalize()
            for label in ("instance", "version", "model", "engine", "device", "precision")
        },
        empty="no worker is scraped",
    )


def store() -> Iterable[Any]:
    """S3, as workers and the API see it."""
    yield lines(
        Look("Requests to S3", "A second, by operation.", PER_SECOND),
        query(rate("warmline_s3_requests_total", N, "operation"), "{{operation}}"),
        stacked=True,
    )
    yield lines(
        Look(
            "Requests that did not succeed",
            "A second. throttled: the store is busy; refused: credentials or policy; error: no answer, or 5xx; "
            "not_found: no such object; precondition: the report was there already.",
            PER_SECOND,
        ),
        query(rate("warmline_s3_requests_total", f'{N}, outcome!="ok"', "outcome"), "{{outcome}}"),
    )
    yield lines(
        Look("S3's answer, p95", "Until the head of the answer is there, with boto3's own retries.", SECONDS),
        query(quantile(0.95, "warmline_s3_request_seconds", N, "operation"), "{{operation}}"),
    )


def redis() -> Iterable[Any]:
    """The ledger and the broker."""
    yield lines(
        half("Redis' memory", "When the limit is reached, nothing is accepted.", BYTES),
        query(f"max by (namespace) (warmline_redis_memory_bytes{{{N}}})", "used {{namespace}}"),
        query(f"max by (namespace) (warmline_redis_memory_limit_bytes{{{N}}} > 0)", "limit {{namespace}}"),
    )
    yield lines(
        half("Redis answers", "1: this process of the API reaches Redis; 0: it does not."),
        query(f"min by (instance) (warmline_redis_up{{{N}}})", "{{instance}}"),
    )


def webhooks() -> Iterable[Any]:
    """Who is told."""
    yield lines(
        half("Webhook posts", "A minute. retried: not taken yet; given_up: never.", PER_MINUTE),
        query("60 * " + rate("warmline_webhook_attempts_total", N, "outcome"), "{{outcome}}"),
        stacked=True,
    )
    yield lines(
        half("Deliveries", "pending: to be tried, or tried again; failed: given up."),
        query(fleet("warmline_webhook_deliveries", N, "status"), "{{status}}"),
    )


def api() -> Iterable[Any]:
    """The HTTP edge."""
    yield lines(
        Look("Requests, by status", "A second.", PER_SECOND),
        query(rate("warmline_http_requests_total", N, "status"), "{{status}}"),
        stacked=True,
    )
    yield lines(
        Look("Requests, by route", "A second.", PER_SECOND),
        query(rate("warmline_http_requests_total", N, "method", "route"), "{{method}} {{route}}"),
    )
    yield lines(
        Look("Answer time, p95", "By route: what one request in 20 exceeds.", SECONDS),
        query(quantile(0.95, "warmline_http_request_seconds", N, "route"), "{{route}}"),
    )


ROWS = (
    ("Is it well?", is_it_well),
    ("Queue", queue),
    ("Work", work),
    ("Speed", speed),
    ("Workers", workers),
    ("S3", store),
    ("Redis", redis),
    ("Webhooks", webhooks),
    ("API", api),
)
