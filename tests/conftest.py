"""What every test may ask for: a real Redis and a real S3, and a corner of each that is its own."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, settings

from config.settings import S3Settings
from tests.servers import RedisServer, running_redis, running_s3
from warmline.objects.store import ObjectStore

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure: neither one example's time nor how long it takes to think of some.
settings.register_profile("busy", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Settings read the environment: what this machine's owner has set for a Warmline of theirs is not for tests.
for _name in [name for name in os.environ if name.startswith("WARMLINE_")]:
    del os.environ[_name]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis (valkey) with a password, for all; `new_database_url()` gives a fresh database."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a database that is empty and this test's alone."""
    return redis_server.new_database_url()


@pytest.fixture(scope="module")
def module_redis_url(redis_server: RedisServer) -> str:
    """The URL of a database that is empty at first and this module's alone: for workers that its tests share."""
    return redis_server.new_database_url()


@pytest.fixture(scope="session")
def s3_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    """A real S3 (SeaweedFS) with the buckets `calls` and `reports`, shared by the session."""
    with running_s3(tmp_path_factory.mktemp("s3")) as settings:
        with closing(ObjectStore(settings)) as store:
            for bucket in (*settings.source_buckets, settings.results_bucket):
                store.ensure_bucket(bucket)
        yield settings


@pytest.fixture
def s3_prefix() -> str:
    """A prefix for keys that no other test uses; ends with a slash."""
    return f"{uuid.uuid4().hex}/"


@pytest.fixture
def new_bucket(s3_settings: S3Settings) -> Callable[[], str]:
    """Makes a bucket that no other test uses, at each call, and returns its name."""

    def make() -> str:
        name = f"test-{uuid.uuid4().hex[:16]}"
        with closing(ObjectStore(s3_settings)) as store:
            store.ensure_bucket(name)
        return name

    return make
