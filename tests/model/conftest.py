"""Random models that several test modules share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import EmotionSettings
from tests.model.random_checkpoints import write_random_model
from warmline.emotion.engine import Engine
from warmline.emotion.loading import load_engine

LoadEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where these tests' models are converted."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny random model. Copy it before you change it."""
    return write_random_model(tmp_path_factory.mktemp("random") / "tiny", "tiny")


@pytest.fixture(scope="session")
def load(models_dir: Path) -> LoadEngine:
    """Loads a model directory on the CPU in fp32 with one thread, unless told otherwise."""

    def load_from(directory: Path, *, threads: int = 1, **options: str) -> Engine:
        chosen = {"engine": "torch", "precision": "fp32", "device": "cpu", **options}
        settings = EmotionSettings.model_validate({"model": str(directory), "models_dir": models_dir, **chosen})
        return load_engine(settings, threads=threads)

    return load_from
