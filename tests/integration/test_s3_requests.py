"""How many requests a job makes of S3: what docs/deploy.md reckons with, counted on the wire."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config.settings import S3Settings
from tests.faulty_proxy import FaultyProxy
from tests.integration.conftest import CALL
from tests.integration.desks import NewDesk, job_for
from warmline.jobs.records import JobStatus
from warmline.objects.store import ObjectStore

GUIDE = Path(__file__).parents[2] / "docs" / "deploy.md"


@pytest.fixture(scope="module")
def proxy(s3_settings: S3Settings) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_settings.endpoint_url) as made:
        yield made


def requests_of_a_job(
    proxy: FaultyProxy, s3: S3Settings, new_desk: NewDesk, results: str, key: str
) -> Counter[str]:
    """By method, of a job for a call that nobody has asked for before."""
    with closing(ObjectStore(s3)) as store:
        source = store.put_call("calls", key, CALL)
    desk = new_desk(results=results, s3=s3.model_copy(update={"endpoint_url": proxy.address}))
    job = job_for(source)
    desk.ledger.create(job)
    before = len(proxy.answered)
    desk.attempt(job)
    assert desk.ledger.get(job.id).status is JobStatus.SUCCEEDED
    print(proxy.answered[before:])
    return Counter(method for method, _, _ in proxy.answered[before:])


@pytest.mark.parametrize("results", ["s3", "both", "redis"])
def test_the_guide_says_how_many_requests_a_job_makes(
    proxy: FaultyProxy, s3_settings: S3Settings, new_desk: NewDesk, s3_prefix: str, results: str
) -> None:
    counted = requests_of_a_job(proxy, s3_settings, new_desk, results, f"{s3_prefix}{results}.wav")
    told = re.search(rf"^\| `{results}` \| (\d+) \| (\d+) \| (\d+) \|", GUIDE.read_text(), re.MULTILINE)
    assert told
    assert [counted[method] for method in ("HEAD", "GET", "PUT")] == [int(number) for number in told.groups()]
    assert counted.total() == sum(int(number) for number in told.groups())
