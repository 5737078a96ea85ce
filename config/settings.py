"""Every knob of Warmline, in frozen sections; the only reader of the environment.

A variable's name is WARMLINE_, the section's name where it has one, and the field's name, in capitals:
`settings.redis.url` is WARMLINE_REDIS_URL. `config/example.env` lists them all.

Sources, strongest first: the environment, `.env` in the working directory, and the file that a running
one-machine stack leaves for its clients (`stack.env` in WARMLINE_STACK_DATA_DIR).

A secret may lie in a file instead, as Docker and Kubernetes hand them out: NAME_FILE says where.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Container
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, get_args

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from config.secret_files import FILE_SUFFIX, SettingsError, read_secret_file
from config.sections.jobs import GeneralSettings, JobsSettings, WorkerSettings
from config.sections.scoring import AnalysisSettings, AudioSettings, CategoriesSettings, EmotionSettings
from config.sections.section import PREFIX, Section
from config.sections.services import ApiSettings, FlowerSettings, StackSettings
from config.sections.stores import RedisSettings, S3Settings
from config.sections.telemetry import LogSettings, MetricsSettings, TracingSettings
from config.sections.uploads import SqsSettings, TriggersSettings, UploadsSettings
from config.sections.webhooks import WebhooksSettings

STACK_ENV_FILE = "stack.env"

_S = TypeVar("_S", bound=Section)

__all__ = [
    "PREFIX",
    "STACK_ENV_FILE",
    "AnalysisSettings",
    "ApiSettings",
    "AudioSettings",
    "CategoriesSettings",
    "EmotionSettings",
    "FlowerSettings",
    "GeneralSettings",
    "JobsSettings",
    "LogSettings",
    "MetricsSettings",
    "RedisSettings",
    "S3Settings",
    "Section",
    "Settings",
    "SettingsError",
    "SqsSettings",
    "StackSettings",
    "TracingSettings",
    "TriggersSettings",
    "UploadsSettings",
    "WebhooksSettings",
    "WorkerSettings",
    "known_variables",
    "load_settings",
    "process_environment",
    "secret_files",
    "section_classes",
    "to_variables",
    "visible_gpus",
]


class Settings(BaseModel):
    """All sections. Build it with `load_settings`; in tests, with values: `Settings(audio=AudioSettings(...))`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    general: GeneralSettings = Field(default_factory=GeneralSettings)
    emotion: EmotionSettings = Field(default_factory=EmotionSettings)
    audio: AudioSettings = Field(default_factory=AudioSettings)
    analysis: AnalysisSettings = Field(default_factory=AnalysisSettings)
    categories: CategoriesSettings = Field(default_factory=CategoriesSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    s3: S3Settings = Field(default_factory=S3Settings)
    triggers: TriggersSettings = Field(default_factory=TriggersSettings)
    sqs: SqsSettings = Field(default_factory=SqsSettings)
    uploads: UploadsSettings = Field(default_factory=UploadsSettings)
    webhooks: WebhooksSettings = Field(default_factory=WebhooksSettings)
    jobs: JobsSettings = Field(default_factory=JobsSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    flower: FlowerSettings = Field(default_factory=FlowerSettings)
    stack: StackSettings = Field(default_factory=StackSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)

    @model_validator(mode="after")
    def _webhooks_are_signed_and_encrypted(self) -> Self:
        webhooks = self.webhooks
        if webhooks.urls and not webhooks.secrets:
            raise ValueError(
                "WARMLINE_WEBHOOKS_URLS needs WARMLINE_WEBHOOKS_SECRETS, so that receivers can tell who posts; "
                "`warmline webhooks secret` makes one"
            )
        if not webhooks.allow_private and any(url.lower().startswith("http:") for url in webhooks.urls):
            raise ValueError(
                "WARMLINE_WEBHOOKS_URLS has an address with http://: use https://, "
                "or for a receiver in your own network set WARMLINE_WEBHOOKS_ALLOW_PRIVATE=true"
            )
        return self

    @model_validator(mode="after")
    def _reports_stay_out_of_the_sources(self) -> Self:
        # A report written under a source bucket would be taken for a call by the next prefix submission.
        if self.s3.results_bucket in self.s3.source_buckets and not self.s3.results_prefix:
            raise ValueError(
                "WARMLINE_S3_RESULTS_BUCKET is one of WARMLINE_S3_SOURCE_BUCKETS: "
                "choose another bucket, or set WARMLINE_S3_RESULTS_PREFIX"
            )
        return self

    SECTIONS: ClassVar[tuple[str, ...]] = (
        "general", "emotion", "audio", "analysis", "categories", "redis", "s3", "triggers", "sqs", "uploads",
        "webhooks", "jobs", "worker", "api", "flower", "stack", "log", "metrics", "tracing",
    )  # fmt: skip


def visible_gpus() -> tuple[str, ...] | None:
    """The entries of CUDA_VISIBLE_DEVICES, by which CUDA hides GPUs from a process; None where it is not set.

    It is no setting of ours: CUDA reads it itself.
    """
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if text is None else tuple(entry.strip() for entry in text.split(","))


def section_classes() -> dict[str, type[Section]]:
    """The sections by their name in `Settings`."""
    return {name: Settings.model_fields[name].annotation for name in Settings.SECTIONS}  # type: ignore[misc]


def known_variables() -> dict[str, tuple[str, str]]:
    """Every variable: name in the environment -> (section, field)."""
    return {
        variable: (section, field)
        for section, cls in section_classes().items()
        for variable, field in cls.variables().items()
    }


def secret_files() -> dict[str, str]:
    """The variables that name a file with a secret: name in the environment -> the variable that it stands for."""
    classes = section_classes()
    return {
        f"{variable}{FILE_SUFFIX}": variable
        for variable, (section, field) in known_variables().items()
        if _is_secret(classes[section].model_fields[field].annotation)
    }


def load_settings(*, dotenv: Path = Path(".env"), with_stack: bool = True, **overrides: str) -> Settings:
    """Reads the settings from the environment, `.env` and a running stack's file.

    `with_stack=False` leaves that file out: for the process that is about to write it.
    `overrides` are variables that win over every source (`WARMLINE_MODEL="mini"`): what a command line said.
    Raises SettingsError, which names the variable, for an unknown one or a bad value, and for a secret's file that
    is not to be read.
    """
    given = {name: value or "" for name, value in {**dotenv_values(dotenv), **os.environ}.items()}
    _reject_unknown({name for name in (*given, *overrides) if name.startswith(PREFIX)})
    overrides = {**_read_secret_files(given, but=overrides), **overrides}
    stack = _build_section(StackSettings, (dotenv,), overrides)
    files = (stack.data_dir / STACK_ENV_FILE, dotenv) if with_stack else (dotenv,)  # the later one wins
    sections = {name: _build_section(cls, files, overrides) for name, cls in section_classes().items()}
    try:
        return Settings.model_validate(sections)
    except ValidationError as error:
        raise SettingsError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def process_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """The environment for a process that is to have exactly these settings, whatever `.env` says there.

    It holds secrets: hand it to the process, and write it nowhere. `extra` are further variables.
    """
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {**others, **to_variables(settings), **extra}


def to_variables(settings: Settings) -> dict[str, str]:
    """The settings as `load_settings` would read them: name in the environment -> value, secrets included."""
    return {
        variable: _to_text(getattr(getattr(settings, section), field))
        for variable, (section, field) in known_variables().items()
    }


def _is_secret(annotation: object) -> bool:
    return annotation is SecretStr or SecretStr in get_args(annotation)


def _read_secret_files(given: dict[str, str], *, but: Container[str]) -> dict[str, str]:
    """The secrets that lie in files, except for those variables: variable -> secret. Raises SettingsError."""
    found = {}
    for name, variable in secret_files().items():
        if variable in but or not given.get(name):
            continue  # an empty one is as if it were not there: compose files hand on what nobody set
        if given.get(variable):
            raise SettingsError(f"{variable} and {name} are both set: which one is meant? Leave one out.")
        found[variable] = read_secret_file(name, Path(given[name]))
    return found


def _to_text(value: object) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case tuple():
            return ",".join(_to_text(part) for part in value)
        case bool():
            return str(value).lower()
        case _:
            return str(value)


def _reject_unknown(names: set[str]) -> None:
    known = known_variables().keys() | secret_files().keys()
    for name in sorted(names - known):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"{name} is not a setting of Warmline{hint} (config/example.env lists them all)")


def _build_section(cls: type[_S], files: tuple[Path, ...], overrides: dict[str, str]) -> _S:
    fields: dict[str, Any] = {
        field: overrides[name] for name, field in cls.variables().items() if name in overrides
    }
    try:
        return cls(_env_file=files, **fields)
    except ValidationError as error:
        raise SettingsError(_describe(error, cls)) from None


def _describe(error: ValidationError, cls: type[Section]) -> str:
    """One sentence for each bad value, by variable name, without the value itself: it may be a secret."""
    names = {field: variable for variable, field in cls.variables().items()}
    described = []
    for problem in error.errors(include_input=False, include_url=False):
        name = names.get(str(problem["loc"][0]), str(problem["loc"]))
        described.append(f"{name} has a bad value: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(described)
