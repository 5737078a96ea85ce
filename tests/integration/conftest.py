"""What tests of real workers share: a small model, settings that name the test's own servers, a call in S3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.settings import (
    EmotionSettings,
    GeneralSettings,
    JobsSettings,
    RedisSettings,
    S3Settings,
    Settings,
    WorkerSettings,
)
from tests.model.random_checkpoints import write_random_model
from warmline.jobs.records import Source
from warmline.objects.store import ObjectStore

CALLS = Path(__file__).parents[2] / "samples" / "calls"
CALL = CALLS / "call-001-billing.wav"  # 24 s, two channels, 8 kHz

NewSettings = Callable[..., Settings]


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
        )

    return make


@pytest.fixture(scope="session")
def call(s3_settings: S3Settings) -> Source:
    """A sample call in S3."""
    return ObjectStore(s3_settings).put_call("calls", "workers/call.wav", CALL)
