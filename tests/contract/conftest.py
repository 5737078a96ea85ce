"""The bundled model, loaded once: a real engine in a fraction of a second."""

from __future__ import annotations

import pytest

from config.settings import EmotionSettings
from warmline.emotion.engine import Engine
from warmline.emotion.loading import load_engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The mini model on the CPU, with one thread."""
    return load_engine(EmotionSettings(model="mini", device="cpu", precision="fp32"), threads=1)
