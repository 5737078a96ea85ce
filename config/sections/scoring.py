"""How calls are decoded, scored and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from config.sections.section import PREFIX, Section


class EmotionSettings(Section):
    """Which model scores, by which engine, where."""

    model: str = Field("mini", description="a name (mini, base, large), a hub id, or a FunASR model directory")
    models_dir: Path = Field(Path("~/.cache/warmline"), description="where pulled and converted models are kept")
    engine: Literal["auto", "torch", "openvino", "funasr"] = Field("auto", description="what runs the model")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto", description="arithmetic of the engine"
    )
    allow_inaccurate: bool = Field(
        False,
        description="true: use a precision though its measured fidelity misses the goal",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto, cpu, cuda or cuda:N; absent is an error",
    )
    threads: int = Field(0, ge=0, description="threads of each engine; 0: planned, see `warmline doctor --plan`")


class AudioSettings(Section):
    """What is accepted as a call, and how it is cut into windows."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}AUDIO_")

    max_seconds: float = Field(6 * 3600.0, gt=0, description="longest call in seconds")
    max_channels: int = Field(16, ge=1, description="most channels in one call")
    window_seconds: float = Field(5.0, ge=0.5, le=30.0, description="longest window, in seconds")
    speech_threshold: float = Field(0.5, gt=0, lt=1, description="speech probability that opens a segment")
    utterance_max_seconds: float = Field(
        300.0, gt=0, description="longest channel scored as one window (granularity=utterance)"
    )


class AnalysisSettings(Section):
    """Where a report draws its lines (docs/reports.md gives the sources)."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}ANALYSIS_")

    low_confidence: float = Field(
        0.35, ge=0, le=1, description="a channel is flagged low_confidence where its dominant emotion scores less"
    )
    clipped_share: float = Field(
        0.001, gt=0, le=1, description="share of clipped samples from which a channel is flagged clipping"
    )
    one_sided_share: float = Field(
        0.9, gt=0.5, le=1, description="share of all talk time from which one channel makes a call one_sided"
    )
    interruption_seconds: float = Field(
        0.3, gt=0, description="both sides speak for so long before it is an interruption"
    )
    longest_silences: int = Field(5, ge=0, le=1000, description="how many of a call's silences a report lists")
    silence_seconds: float = Field(2.0, gt=0, description="shortest silence that is listed")


class CategoriesSettings(Section):
    """What a call centre calls its calls: rules over reports."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}CATEGORIES_")

    file: str = Field("", description="TOML file of categories that reports are matched with; empty: none")
