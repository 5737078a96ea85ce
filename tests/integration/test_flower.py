"""Flower as it is run: what it shows of real jobs of a real worker, and what it does not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from pydantic import SecretStr

from config.settings import FlowerSettings, Settings, process_environment
from tests.faulty_proxy import Fault, FaultyProxy, Mode
from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess
from tests.ports import choose_port
from tests.servers import running, wait_until
from warmline.jobs import keys
from warmline.jobs.connection import make_client
from warmline.jobs.queue import QUEUES, TASK, make_celery
from warmline.jobs.records import Job, JobStatus, Source
from warmline.jobs.submission import submit_job
from warmline.local.plan import flower_command

USER, PASSWORD = "watcher", "open sesame"
SECRETS = ("Mrs-Marple", "customer_name", "private-folder", "call.wav", "s3://")  # in jobs' keys and metadata
PRIVATE = {"customer_name": "Mrs-Marple"}
MISSING = Source(bucket="calls", key="private-folder/missing.wav")


class Flower:
    """A running Flower, as a browser and as a program see it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx.Client(base_url=url, auth=(USER, PASSWORD), timeout=60, trust_env=False)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Task id -> what the API tells of it."""
        found: dict[str, dict[str, Any]] = self.client.get("/api/tasks").raise_for_status().json()
        return found

    def rows(self) -> list[dict[str, Any]]:
        """What the page with the tasks fills its table with."""
        columns = ["name", "uuid", "state", "received", "started", "runtime", "worker", "exception"]
        query = {f"columns[{n}][data]": name for n, name in enumerate(columns)}
        query |= {"draw": "1", "start": "0", "length": "50", "order[0][column]": "3", "order[0][dir]": "desc"}
        answer = self.client.get("/tasks/datatable", params=query).raise_for_status().json()
        rows: list[dict[str, Any]] = answer["data"]
        return rows

    def knows_workers(self) -> bool:
        """Whether it has asked the workers who they are."""
        return bool(self.client.get("/api/workers", params={"refresh": "1"}).raise_for_status().json())


@contextmanager
def running_flower(settings: Settings, log: Path, **variables: str) -> Iterator[Flower]:
    """Flower under these settings, while the block lasts; it is killed at its end: SIGKILL."""
    flower = Flower(f"http://127.0.0.1:{settings.flower.port}")

    def answers() -> bool:
        try:
            return httpx.get(f"{flower.url}/healthcheck", trust_env=False).is_success
        except httpx.TransportError:
            return False

    environment = {**process_environment(settings), **variables}
    with running(flower_command(), log, answers, environment=environment) as process, flower.client:
        yield flower
        process.kill()


@pytest.fixture
def settings(redis_url: str, worker_settings: NewSettings, tmp_path: Path) -> Settings:
    flower = FlowerSettings(
        port=choose_port(), user=USER, password=SecretStr(PASSWORD), state_dir=str(tmp_path / "made" / "state")
    )
    # The lease outlasts the time for which a test holds a child, and a second attempt waits until it is called.
    return worker_settings(redis_url, lease_seconds=300, retry_seconds=300).model_copy(update={"flower": flower})


@pytest.mark.slow
def test_a_jobs_life_can_be_watched_and_nothing_private_is_shown(
    settings: Settings, call: Source, long_call: Source, tmp_path: Path
) -> None:
    saved = Path(settings.flower.state_dir)
    with (
        FaultyProxy(settings.s3.endpoint_url) as proxy,
        running_flower(settings, tmp_path / "flower.log") as flower,
    ):
        s3 = settings.s3.model_copy(update={"endpoint_url": proxy.address})
        wait_until(lambda: "Visit me" in (tmp_path / "flower.log").read_text(), "Flower listens to events")
        with WorkerProcess(settings.model_copy(update={"s3": s3}), tmp_path / "worker.log") as worker:
            # Given a worker with three jobs of its own, and one that another Celery client sent, arguments and all
            worker.wait_warm()
            wait_until(flower.knows_workers, "Flower knows the worker", interval_seconds=0.2)
            long, good, bad = (
                submit_job(worker.ledger, source, metadata=PRIVATE, lane=lane).job.id
                for source, lane in ((long_call, "live"), (call, "bulk"), (MISSING, "live"))
            )
            foreign = send_with_celery(settings, call)
            # When one runs and others wait
            held = worker.hold(long)
            wait_until(lambda: flower.tasks().get(long, {}).get("state") == "STARTED", "a job has started")
            (name,) = flower.client.get("/api/workers").json()
            inside = everything_shown(flower, name)
            worker.ledger.cancel(long)
            held.resume()
            wait_until(lambda: len(worker.ledger.list()) == 4, "the foreign job is taken")
            for job_id in (long, good, bad, foreign):
                worker.wait_finished(job_id)
            see_a_job_tried_again(flower, worker, proxy, call)
        # Then each step of each is there, with the outcome
        wait_until(
            lambda: {flower.tasks()[i]["state"] for i in (good, foreign)} == {"SUCCESS"}, "jobs have succeeded"
        )
        wait_until(lambda: flower.tasks()[bad]["state"] == "FAILURE", "a job has failed")
        tasks = flower.tasks()
        for job_id in (good, foreign, bad):
            task = tasks[job_id]
            assert task["received"] <= task["started"] <= (task["succeeded"] or task["failed"])
            assert task["worker"] == name
        assert "object_not_found" in tasks[bad]["exception"]
        assert {i: tasks[i]["args"] for i in (long, good)} == {long: "live lane", good: "bulk lane"}
        # And in names that read well
        names = {row["uuid"]: row["name"] for row in flower.rows()}
        assert names[long] == "analyze a call, live lane"
        assert names[good] == "analyze a call, bulk lane"
        # And neither keys nor metadata nor passwords, on no page and in no answer
        redis_password = settings.redis.url.get_secret_value().split("@")[0].rpartition(":")[2]
        shown = inside | everything_shown(flower, name)
        assert len(shown) > 10
        for path, text in shown.items():
            for secret in (*SECRETS, redis_password, PASSWORD):
                assert secret not in text, path
        # And it is saved, for its owner alone
        ended = time.time()
        wait_until(lambda: any(path.stat().st_mtime > ended for path in saved.glob("history*")), "it is saved")
        assert {path.stat().st_mode & 0o077 for path in (saved, *saved.iterdir())} == {0}
    # When it was killed without warning and starts again, then it still knows
    with running_flower(settings, tmp_path / "flower.log") as flower:
        again = flower.tasks()
        assert {i: again[i]["state"] for i in (good, bad)} == {good: "SUCCESS", bad: "FAILURE"}


def see_a_job_tried_again(flower: Flower, worker: WorkerProcess, proxy: FaultyProxy, call: Source) -> None:
    """It is to be tried again until it is, and then it is what its last attempt was."""

    def state() -> str:
        return str(flower.tasks().get(job_id, {}).get("state"))

    proxy.fail(Fault(mode=Mode.REFUSE))
    job_id = submit_job(worker.ledger, call, lane="bulk").job.id
    wait_until(lambda: bool(worker.ledger.get(job_id).attempts), "its first attempt is over", seconds=120)
    assert worker.ledger.get(job_id).status is JobStatus.QUEUED
    proxy.fail(None)
    wait_until(lambda: state() == "RETRY", f"it is to be tried again, not {state()}", seconds=60)
    assert flower.tasks()[job_id]["exception"] == "AttemptFailed('store_unavailable')"
    assert flower.tasks()[job_id]["failed"] is None
    # And neither Celery nor the ledger has done so before its time
    assert [past.outcome for past in worker.ledger.get(job_id).attempts] == ["retried"]
    with closing(make_client(worker.settings.redis)) as redis:
        redis.zadd(keys.DELAYED, {job_id: 0})  # now it is time
    assert worker.wait_finished(job_id).attempt == 2
    wait_until(lambda: state() == "SUCCESS", f"it has succeeded, not {state()}", seconds=60)


def send_with_celery(settings: Settings, call: Source) -> str:
    """A job as a plain Celery client sends it, which copies the arguments into a header for the events."""
    job = Job(id=uuid4().hex, source=call, metadata=PRIVATE, created_at=datetime.now(UTC), lane="bulk")
    app = make_celery(settings)
    app.send_task(TASK, args=[job.model_dump(mode="json")], task_id=job.id, queue=QUEUES["bulk"])
    app.close()
    return job.id


def everything_shown(flower: Flower, worker: str) -> dict[str, str]:
    """Address -> what is there: every page and every answer of the API that reads."""
    ids = list(flower.tasks())
    paths = ["/", "/workers", "/workers?json=1", "/tasks", "/broker", "/metrics", f"/worker/{worker}"]
    paths += ["/api/tasks", "/api/task/types", "/api/queues/length"]
    paths += ["/api/workers?refresh=1", f"/api/workers?refresh=1&workername={worker}"]
    paths += [f"{path}/{i}" for i in ids for path in ("/task", "/api/task/info")]
    shown = {path: flower.client.get(path).raise_for_status().text for path in paths}
    return {**shown, "rows": str(flower.rows())}


@pytest.fixture(scope="module")
def open_flower(
    module_redis_url: str, worker_settings: NewSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flower]:
    """Flower in an environment that tries to open it."""
    flower = FlowerSettings(port=choose_port(), user=USER, password=SecretStr(PASSWORD))
    settings = worker_settings(module_redis_url).model_copy(update={"flower": flower})
    variables = {
        "FLOWER_UNAUTHENTICATED_API": "true",
        "FLOWER_BASIC_AUTH": "open:door",
        "FLOWER_READ_ONLY": "false",
        "FLOWER_ADDRESS": "0.0.0.0",  # noqa: S104
    }
    with running_flower(settings, tmp_path_factory.mktemp("flower") / "flower.log", **variables) as running_one:
        yield running_one


POSTS = (
    f"/api/task/async-apply/{TASK}",
    f"/api/task/send-task/{TASK}",
    "/api/task/revoke/x",
    "/api/worker/shutdown/w@h",
    "/api/worker/pool/grow/w@h",
    "/api/worker/queue/cancel-consumer/w@h",
)


@pytest.mark.parametrize("auth", [None, (USER, "wrong"), ("open", "door"), (USER, "")], ids=str)
def test_without_the_password_nothing_is_shown_or_done(open_flower: Flower, auth: tuple[str, str] | None) -> None:
    with httpx.Client(base_url=open_flower.url, auth=auth, trust_env=False, timeout=60) as stranger:
        for path in (
            "/",
            "/tasks",
            "/workers",
            "/broker",
            "/api/tasks",
            "/api/workers",
            "/task/x",
            "/tasks/datatable",
        ):
            assert stranger.get(path).status_code == 401, path
        for path in POSTS:
            assert stranger.post(path, json={"args": []}).status_code == 401, path
        assert stranger.get("/healthcheck").text == "OK"


def test_with_the_password_nothing_can_be_sent_or_stopped(open_flower: Flower) -> None:
    for path in POSTS:
        assert open_flower.client.post(path, json={"args": []}).status_code == 403, path
    assert open_flower.client.get("/api/queues/length").json()["active_queues"]
    assert all(
        queue["messages"] == 0 for queue in open_flower.client.get("/api/queues/length").json()["active_queues"]
    )


def test_it_listens_where_the_settings_say_and_nowhere_else(open_flower: Flower) -> None:
    port = int(open_flower.url.rpartition(":")[2])
    addresses = {
        c.laddr.ip
        for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port
    }
    assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda path: path.mkdir(mode=0o777) or path.chmod(0o777), "everybody can write to"),
        (lambda path: path.write_text("a file"), "cannot be used"),
    ],
)
def test_a_directory_for_its_state_that_is_of_no_use_is_told(
    settings: Settings, tmp_path: Path, prepare: Callable[[Path], object], sentence: str
) -> None:
    path = tmp_path / "state"
    prepare(path)
    changed = settings.flower.model_copy(update={"state_dir": str(path)})
    ended = subprocess.run(
        flower_command(),
        env=process_environment(settings.model_copy(update={"flower": changed})),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode != 0
    assert sentence in ended.stderr
    assert "WARMLINE_FLOWER_STATE_DIR" in ended.stderr


def test_behind_a_proxy_it_serves_below_the_path(settings: Settings, tmp_path: Path) -> None:
    flower = settings.flower.model_copy(update={"url_prefix": "/tools/flower/", "state_dir": ""})
    changed = settings.model_copy(update={"flower": flower})
    url = f"http://127.0.0.1:{flower.port}/tools/flower"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/healthcheck", trust_env=False).is_success
        except httpx.TransportError:
            return False

    with running(flower_command(), tmp_path / "log", answers, environment=process_environment(changed)):
        assert httpx.get(f"{url}/tasks", trust_env=False, timeout=60).status_code == 401
        page = httpx.get(f"{url}/tasks", auth=(USER, PASSWORD), trust_env=False, timeout=60)
        assert page.is_success
        assert "/tools/flower/static/" in page.text
