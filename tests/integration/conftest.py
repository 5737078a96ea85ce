"""What tests of real workers share: a small model, settings that name the test's own servers, a call in S3."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import soundfile
from mypy_boto3_s3.client import S3Client
from pydantic import SecretStr

from config.settings import (
    EmotionSettings,
    GeneralSettings,
    JobsSettings,
    MetricsSettings,
    RedisSettings,
    S3Settings,
    Settings,
    WorkerSettings,
)
from tests.integration.desks import NewDesk, SlowEngine
from tests.model.random_checkpoints import write_random_model
from tests.moto_server import AwsServer, running_aws
from tests.ports import choose_port
from warmline.emotion.engine import Engine
from warmline.emotion.loading import load_engine
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Source
from warmline.objects.store import ObjectStore
from workers.scoring import Desk
from workers.scratch import Scratch

CALLS = Path(__file__).parents[2] / "samples" / "calls"
CALL = CALLS / "call-001-billing.wav"  # 24 s, two channels, 8 kHz

NewSettings = Callable[..., Settings]


@pytest.fixture(scope="session")
def s3_client(s3_settings: S3Settings) -> Iterator[S3Client]:
    """boto3 itself, for what the store has no word for: deleting, switching versions on, listing what is there."""
    with closing(
        boto3.client(
            "s3",
            endpoint_url=s3_settings.endpoint_url,
            region_name=s3_settings.region,
            aws_access_key_id=s3_settings.access_key.get_secret_value(),
            aws_secret_access_key=s3_settings.secret_key.get_secret_value(),
        )
    ) as client:
        yield client


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    """S3, SQS, SNS and EventBridge that send each other events (moto's server), shared by the session."""
    with running_aws(tmp_path_factory.mktemp("aws")) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory in FunASR's layout with random weights, small enough to load in no time."""
    return write_random_model(tmp_path_factory.mktemp("tiny") / "tiny", "tiny")


@pytest.fixture(scope="session")
def worker_settings(
    tiny_model: Path, s3_settings: S3Settings, tmp_path_factory: pytest.TempPathFactory
) -> NewSettings:
    """Makes the settings of a worker with one child, a beat a second, and quick retries, on a given Redis.

    What is given beyond the arguments by name goes to the section of the queue's rules.
    """
    models_dir = tmp_path_factory.mktemp("models")

    def make(
        redis_url: str,
        *,
        model: Path | str = tiny_model,
        children: int = 1,
        results: str = "both",
        s3: S3Settings = s3_settings,
        **jobs: float,
    ) -> Settings:
        return Settings(
            general=GeneralSettings.model_validate({"results": results}),
            redis=RedisSettings(url=SecretStr(redis_url)),
            s3=s3,
            emotion=EmotionSettings(model=str(model), models_dir=models_dir, threads=1),
            jobs=JobsSettings.model_validate({"max_attempts": 3, "retry_seconds": 0.2} | jobs),
            worker=WorkerSettings(
                children=children,
                live_children=0,
                heartbeat_seconds=1,
                scratch_dir=tmp_path_factory.mktemp("scratch"),
            ),
            metrics=MetricsSettings(port=choose_port()),  # tests run side by side
        )

    return make


@pytest.fixture(scope="session")
def call(s3_settings: S3Settings) -> Source:
    """A sample call in S3."""
    with closing(ObjectStore(s3_settings)) as store:  # an open connection would keep the server from ending
        return store.put_call("calls", "workers/call.wav", CALL)


@pytest.fixture(scope="session")
def long_call(s3_settings: S3Settings, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A call in S3 that takes some seconds to analyse: ten minutes of the sample."""
    path = tmp_path_factory.mktemp("calls") / "long.wav"
    samples, rate_hz = soundfile.read(CALL)
    soundfile.write(path, np.tile(samples, (25, 1)), rate_hz, subtype="ULAW")
    with closing(ObjectStore(s3_settings)) as store:
        return store.put_call("calls", "workers/long-call.wav", path)


@pytest.fixture(scope="session")
def engine(worker_settings: NewSettings) -> Engine:
    """The tiny model, loaded."""
    return load_engine(worker_settings("redis://unused").emotion, threads=1)


@pytest.fixture
def new_desk(
    worker_settings: NewSettings, redis_url: str, engine: Engine, s3_settings: S3Settings
) -> Iterator[NewDesk]:
    """Makes desks at one ledger; what is given beyond the arguments by name are rules of the queue."""
    opened: list[Desk] = []

    def make(*, results: str = "both", s3: S3Settings = s3_settings, **jobs: float) -> Desk:
        settings = worker_settings(redis_url, results=results, s3=s3, **jobs)
        scratch = Scratch.open(settings.worker.scratch_dir)
        scratch.enter_child()
        desk = Desk(
            worker="w",
            engine=engine,
            ledger=Ledger.connect(settings.redis, settings.jobs),
            store=ObjectStore(s3),
            scratch=scratch,
            settings=settings,
        )
        opened.append(desk)
        return desk

    yield make
    for desk in opened:
        desk.ledger.close()
        desk.store.close()
        desk.scratch.remove()


@pytest.fixture
def slow_desk(new_desk: NewDesk, engine: Engine, call: Source) -> NewDesk:
    """Makes desks at which the sample call takes two seconds, and a client of S3 is built before."""

    def make(**settings: Any) -> Desk:
        desk = new_desk(**settings)
        desk.store.head(call)
        return dataclasses.replace(desk, engine=SlowEngine(engine))

    return make
