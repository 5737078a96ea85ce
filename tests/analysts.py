"""Analysts for tests: an engine with the default settings, whatever the environment says."""

from __future__ import annotations

from config.settings import AnalysisSettings, AudioSettings
from warmline.calls.analyze import Analyst
from warmline.emotion.engine import Engine


def analyst_with(engine: Engine) -> Analyst:
    """The defaults."""
    return Analyst(engine=engine, audio=AudioSettings(), analysis=AnalysisSettings())
