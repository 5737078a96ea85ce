"""A Redis as services rent it out: by TLS, with a user of few rights, without CONFIG. The whole road of a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError
from pydantic import SecretStr

from config.settings import RedisSettings, load_settings
from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess
from tests.servers import RedisServer, running_redis
from tests.tls_front import tls_front
from tests.webhook_receiver import Authority, make_authority
from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import make_celery
from warmline.jobs.records import JobStatus, Source
from warmline.jobs.redis_facts import read_redis_facts
from warmline.jobs.submission import submit_job

PASSWORD = "of-the-user"
# docs/deploy.md has the same line.
RIGHTS = "~warmline:* &* +@all -@admin -@dangerous +info"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """With a user for Warmline beside the server's own."""
    with running_redis(tmp_path_factory.mktemp("redis")) as made:
        with closing(redis.Redis.from_url(made.url())) as client:
            client.execute_command("ACL", "SETUSER", "warmline", "on", f">{PASSWORD}", *RIGHTS.split())
        yield made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def port(server: RedisServer, authority: Authority) -> Iterator[int]:
    """Where the server is by TLS."""
    with tls_front(server.port, authority.tls) as made:
        yield made


def test_a_job_takes_its_whole_road_by_tls_as_a_user_of_few_rights(
    port: int, authority: Authority, worker_settings: NewSettings, call: Source, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # Given an address with a user and a certificate's authority, and the password by itself, as the guide has it
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WARMLINE_REDIS_URL", f"rediss://warmline@localhost:{port}/0?ssl_ca_certs={authority.file}")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    monkeypatch.setenv("WARMLINE_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    url = load_settings().redis.url.get_secret_value()
    # When a worker and whoever submits use it
    with WorkerProcess(worker_settings(url), tmp_path / "worker.log") as worker:
        worker.wait_warm()
        job = submit_job(worker.ledger, call)
        # Then the job succeeds, and the worker ends as it should
        assert worker.wait_finished(job.job.id).status is JobStatus.SUCCEEDED
        worker.process.terminate()
        assert worker.wait_exit() == 0
        log = worker.log_text()
    assert "NOPERM" not in log
    assert PASSWORD not in log
    assert read_redis_facts(RedisSettings(url=SecretStr(url))).append_only


@pytest.mark.parametrize("rest", ["", "?ssl_ca_certs={stranger}"])
def test_a_certificate_of_a_stranger_is_refused(
    port: int, tmp_path: Path, worker_settings: NewSettings, rest: str
) -> None:
    stranger = make_authority(tmp_path).file
    url = f"rediss://warmline:{PASSWORD}@localhost:{port}/0{rest.format(stranger=stranger)}"
    settings = worker_settings(url)
    with (
        closing(Ledger.connect(settings.redis, settings.jobs)) as ledger,
        pytest.raises(LedgerUnavailable, match=r"(?i)certificate"),
    ):
        ledger.ping()


@pytest.mark.parametrize("rest", ["", "?ssl_ca_certs={stranger}"])
def test_celery_refuses_it_too(port: int, tmp_path: Path, worker_settings: NewSettings, rest: str) -> None:
    stranger = make_authority(tmp_path).file
    settings = worker_settings(f"rediss://warmline:{PASSWORD}@localhost:{port}/0{rest.format(stranger=stranger)}")
    app = make_celery(settings)
    with app.connection() as connection, pytest.raises(OperationalError, match=r"(?i)certificate"):
        connection.ensure_connection(max_retries=1, interval_start=0)
