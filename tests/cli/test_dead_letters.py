"""Cancelling, and what there is to do about dead letters: the command against a real API, without workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.settings import ApiSettings, JobsSettings, RedisSettings, S3Settings
from tests.api_process import running_api
from tests.cli.conftest import Warmline
from warmline.cli.api_client import ApiClient
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Failure, JobState

FLAKY = Failure(code="store_unavailable", message="The object store does not answer.")


@pytest.fixture(scope="module")
def api_url(
    tmp_path_factory: pytest.TempPathFactory, module_redis_url: str, s3_settings: S3Settings
) -> Iterator[str]:
    with running_api(tmp_path_factory.mktemp("api"), module_redis_url, s3_settings) as running:
        yield running.url


@pytest.fixture(scope="module")
def api(api_url: str) -> Iterator[ApiClient]:
    with ApiClient(ApiSettings(url=api_url)) as made:
        yield made


@pytest.fixture(scope="module")
def ledger(module_redis_url: str) -> Iterator[Ledger]:
    """The ledger, of workers that try a job once."""
    redis = RedisSettings(url=SecretStr(module_redis_url))
    with closing(Ledger.connect(redis, JobsSettings(max_attempts=1))) as made:
        yield made


@pytest.fixture
def client(warmline: Warmline, api_url: str, tmp_path: Path) -> Warmline:
    def run(*arguments: str | Path, **variables: str) -> object:
        return warmline(*arguments, WARMLINE_API_URL=api_url, WARMLINE_STACK_DATA_DIR=str(tmp_path), **variables)

    return run  # type: ignore[return-value]


def submit(api: ApiClient, calls: int = 1) -> tuple[str, list[str]]:
    """A batch's id and its jobs', in the order of submission."""
    batch_id = api.submit_batch({"bucket": "calls", "keys": [f"night/{n}.wav" for n in range(calls)]})
    return batch_id, [state.job.id for state in reversed(api.batch_jobs(batch_id))]


def kill(ledger: Ledger, job_id: str) -> None:
    claimed = ledger.claim(ledger.get(job_id).job, "worker@host/1")
    assert isinstance(claimed, JobState)
    assert ledger.retry(job_id, claimed.attempt, FLAKY, delay_seconds=0) == "dead"


def test_a_job_and_a_batch_are_cancelled_by_their_ids(client: Warmline, api: ApiClient, ledger: Ledger) -> None:
    # Given a batch of which one job runs
    batch_id, ids = submit(api, 3)
    ledger.claim(ledger.get(ids[0]).job, "worker@host/1")
    # When a waiting job, the running one and the whole batch are cancelled
    waiting, running, batch = (client("cancel", one) for one in (ids[1], ids[0], batch_id))
    # Then each says what became of it
    assert (waiting.returncode, waiting.stdout) == (0, "cancelled\n")
    assert (running.returncode, running.stdout) == (0, "stops soon\n")
    assert batch.stdout == "0 of 3 succeeded, 0 failed, 2 cancelled; 1 running, which stop soon\n"
    ledger.cancelled(ids[0], 1)
    # and whoever watches the batch learns that not all of it succeeded
    watched = client("watch", batch_id)
    assert watched.returncode == 1
    assert "0 of 3 succeeded, 0 failed, 3 cancelled" in watched.stderr
    assert "s3://calls/night/2.wav: cancelled" in watched.stderr
    listed = client("jobs", "--status", "cancelled", "--batch", batch_id).stdout
    assert all(one in listed for one in ids)


def test_dead_letters_are_listed_shown_replayed_and_purged(
    client: Warmline, api: ApiClient, ledger: Ledger
) -> None:
    # Given a batch of three whose jobs were given up
    batch_id, ids = submit(api, 3)
    for job_id in ids:
        kill(ledger, job_id)
    # Then they are listed, and one is shown with its attempts and its error
    listed = client("dead-letters", "list", "--batch", batch_id).stdout
    assert all(job_id in listed for job_id in ids)
    shown = client("dead-letters", "show", ids[0]).stdout
    assert "s3://calls/night/0.wav" in shown
    assert shown.count("The object store does not answer. [store_unavailable]") == 2
    assert "worker@host/1" in shown
    # When one is replayed and one purged
    assert client("dead-letters", "replay", ids[0]).stdout == "1 to run again\n"
    assert client("dead-letters", "purge", ids[1], "--yes").stdout == "1 purged\n"
    # Then the third alone is left; the batch's replay takes it along
    assert [state.job.id for state in api.dead_letters(batch_id=batch_id)] == [ids[2]]
    assert client("dead-letters", "replay", "--batch", batch_id).stdout == "1 to run again\n"
    assert api.dead_letters(batch_id=batch_id) == []
    # and when it dies again, all are purged
    kill(ledger, ids[2])
    assert client("dead-letters", "purge", "--all", "--yes").stdout == "1 purged\n"
    assert api.dead_letters() == []


def test_nothing_is_purged_without_a_yes(client: Warmline, api: ApiClient, ledger: Ledger) -> None:
    _, (job_id,) = submit(api)
    kill(ledger, job_id)
    done = client("dead-letters", "purge", "--all")  # stdin is empty
    assert done.returncode == 1
    assert "Forget all dead letters for good?" in done.stderr
    assert api.job(job_id).status == "dead"


@pytest.mark.parametrize("choice", [(), ("0" * 32, "--all"), ("--batch", "0" * 32, "--all")])
def test_one_choice_has_to_be_made(client: Warmline, choice: tuple[str, ...]) -> None:
    done = client("dead-letters", "replay", *choice)
    assert done.returncode == 1
    assert "one id, or --batch ID, or --all [invalid_request]" in done.stderr


def test_what_is_not_there_is_one_line(client: Warmline) -> None:
    done = client("cancel", "0" * 32)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "[batch_not_found]" in done.stderr
