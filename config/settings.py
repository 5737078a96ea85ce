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
import re
from base64 import b64decode
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar, get_args
from urllib.parse import quote, urlsplit, urlunsplit

from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "WARMLINE_"
STACK_ENV_FILE = "stack.env"
MOST_WEBHOOKS = 16  # addresses
FILE_SUFFIX: Final = "_FILE"  # of a variable that names the file in which a secret lies
MOST_SECRET_BYTES: Final = 64 * 1024

_S = TypeVar("_S", bound="Section")


class SettingsError(Exception):
    """A variable is unknown or its value is not usable; the message names the variable."""


class Section(BaseSettings):
    """Part of the settings; its variables share a prefix."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix=PREFIX)

    @field_validator("*", mode="before")
    @classmethod
    def _split_lists(cls, value: object, info: ValidationInfo) -> object:
        """A tuple is written as a comma-separated list; an empty string is the empty list."""
        field = cls.model_fields[str(info.field_name)]
        if NoDecode in field.metadata and isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @classmethod
    def variables(cls) -> dict[str, str]:
        """The section's variables: name in the environment -> field."""
        prefix = str(cls.model_config.get("env_prefix"))
        return {f"{prefix}{name}".upper(): name for name in cls.model_fields}


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


class WebhooksSettings(Section):
    """Who is told when jobs and batches end."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}WEBHOOKS_")

    urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="https:// addresses that events are posted to, comma-separated; empty: none"
    )
    secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="whsec_… that sign them; the first is the present one, later ones sign beside it"
    )
    events: Annotated[
        tuple[Literal["job.succeeded", "job.failed", "job.cancelled", "job.dead", "batch.finished"], ...],
        NoDecode,
    ] = Field(
        ("job.succeeded", "job.failed", "job.cancelled", "job.dead", "batch.finished"),
        description="which events are posted, comma-separated",
    )
    allow_private: bool = Field(
        False, description="true: also to addresses of private networks and loopback, and there by http:// too"
    )
    ca_file: str = Field(
        "", description="PEM file of further certificate authorities that receivers' certificates may be of"
    )
    max_attempts: int = Field(10, ge=1, le=30, description="tries before a delivery is given up")
    retry_seconds: float = Field(5.0, gt=0, description="wait before the second try; four times as long each time")
    max_retry_seconds: float = Field(6 * 3600.0, gt=0, description="longest wait between two tries")
    timeout_seconds: float = Field(15.0, gt=0, description="longest time that one try may take")
    concurrency: int = Field(
        8,
        ge=1,
        le=64,
        description="deliveries under way at once, shared evenly by the addresses; one for each at least",
    )
    max_waiting: int = Field(
        1_000_000,
        ge=1,
        description="most endings that wait to become deliveries; the oldest is dropped for one more",
    )
    max_log: int = Field(
        100_000, ge=1, description="most deliveries that have ended in the log; older ones go first"
    )
    retention_seconds: int = Field(7 * 86400, ge=60, description="how long the log of deliveries is kept")

    @field_validator("urls")
    @classmethod
    def _are_addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        # Not repeated in the message: some carry a token.
        if len(urls) > MOST_WEBHOOKS:
            raise ValueError(f"there may be {MOST_WEBHOOKS} addresses")
        for place, url in enumerate(urls, 1):
            if fault := _fault_of_address(url):
                raise ValueError(f"address {place} {fault}")
        return tuple(dict.fromkeys(urls))

    @field_validator("secrets")
    @classmethod
    def _are_secrets(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for place, secret in enumerate(secrets, 1):
            if not _is_webhook_secret(secret.get_secret_value()):
                raise ValueError(
                    f"secret {place} is not whsec_ and base64 of 24 to 64 bytes; "
                    "`warmline webhooks secret` makes one"
                )
        return secrets


class RedisSettings(Section):
    """The ledger and the broker."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}REDIS_")

    password: SecretStr = Field(
        SecretStr(""),
        description="put into WARMLINE_REDIS_URL where that has none: for a file that holds it alone",
    )
    url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="redis:// or rediss:// with password and database",
        validate_default=True,
    )
    timeout_seconds: float = Field(5.0, gt=0, description="longest wait for a connection or an answer")

    @field_validator("url")
    @classmethod
    def _is_of_redis(cls, url: SecretStr) -> SecretStr:
        # The rest of the address is not repeated: it has the password.
        scheme, separator, _ = url.get_secret_value().partition("://")
        if not separator or not re.fullmatch(r"[a-z0-9+.-]{1,20}", scheme):
            raise ValueError("it is not of the form redis://:password@host:port/database")
        if scheme not in {"redis", "rediss"}:
            raise ValueError(
                f"it begins with {scheme}://, and the ledger and the queue are Redis or Valkey: use redis:// or "
                "rediss:// (docs/deploy.md has why no other broker will do)"
            )
        return url

    @field_validator("url")
    @classmethod
    def _has_the_password(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        # A URL's own password stands: a one-machine stack's URL has that of its embedded server.
        password: SecretStr | None = info.data.get("password")
        if password is None or not password.get_secret_value():
            return url
        return SecretStr(_with_password(url.get_secret_value(), password.get_secret_value()))


class S3Settings(Section):
    """The object store: where calls are read and reports are written."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}S3_")

    endpoint_url: str = Field("", description="an S3-compatible store's address; empty for AWS")
    region: str = Field("us-east-1", description="region of the buckets")
    access_key: SecretStr = Field(SecretStr(""), description="empty: boto3's own credential chain")
    secret_key: SecretStr = Field(SecretStr(""), description="empty: boto3's own credential chain")
    source_buckets: Annotated[tuple[str, ...], NoDecode] = Field(
        ("calls",), description="buckets that jobs may read, comma-separated"
    )
    results_bucket: str = Field("reports", description="bucket that reports are written to")
    results_prefix: str = Field("", description="put before every report's key")
    max_object_bytes: int = Field(2 * 1024**3, gt=0, description="largest object fetched, in bytes")
    timeout_seconds: float = Field(30.0, gt=0, description="longest wait for a connection or a read")
    min_bytes_per_second: int = Field(
        4096, ge=0, description="a slower body is given up after timeout_seconds, and tried again"
    )
    public_url: str = Field(
        "", description="where those who upload reach the store, if not at endpoint_url; for presigned URLs"
    )


class TriggersSettings(Section):
    """What happens when an object store announces an upload."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}TRIGGERS_")

    file: str = Field(
        "", description="TOML file of rules; empty: every recording in the source buckets, bulk lane"
    )
    tokens: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="accepted by POST /v1/events/s3 alone, beside the API keys, comma-separated"
    )
    ignore_prefixes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("demo/", "submitted/"), description="keys that no rule sees: what is uploaded to be submitted otherwise"
    )
    jobs_per_minute: int = Field(
        0,
        ge=0,
        description="pace at which each rule's jobs get into their lane, unless it has its own; 0: at once",
    )
    remember_seconds: int = Field(
        3 * 86400, ge=60, description="how long an event that comes late is known to be older than another one"
    )
    max_body_bytes: int = Field(1024**2, gt=0, description="largest body of POST /v1/events/s3, in bytes")
    sns_topics: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="ARNs of the SNS topics whose messages are accepted, comma-separated"
    )
    sns_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="https://host[:port] of another SNS than AWS's own: its certificates, its confirmations"
    )


class SqsSettings(Section):
    """The queue that `warmline-sqs` takes S3's events from."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}SQS_")

    queue_url: str = Field("", description="the queue's URL; empty: there is none")
    endpoint_url: str = Field("", description="an SQS-compatible service's address; empty for AWS")
    region: str = Field("", description="region of the queue; empty: WARMLINE_S3_REGION")
    access_key: SecretStr = Field(SecretStr(""), description="empty: boto3's own credential chain")
    secret_key: SecretStr = Field(SecretStr(""), description="empty: boto3's own credential chain")
    wait_seconds: int = Field(
        20, ge=0, le=20, description="how long one request waits for messages (long polling)"
    )
    visibility_seconds: int = Field(
        60,
        ge=5,
        le=43200,
        description="how long taken messages are hidden from others; renewed while they are worked on",
    )
    receivers: int = Field(2, ge=1, le=32, description="threads that take messages")


class UploadsSettings(Section):
    """Presigned uploads (POST /v1/uploads)."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}UPLOADS_")

    prefix: str = Field("uploads/", description="put before the keys of presigned uploads")
    expires_seconds: int = Field(900, ge=1, le=7 * 86400, description="how long a presigned upload may begin")
    max_bytes: int = Field(512 * 1024**2, gt=0, description="largest presigned upload, in bytes")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins of web pages that may upload to the embedded S3's buckets, comma-separated"
    )


class JobsSettings(Section):
    """Rules of the queue."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}JOBS_")

    max_attempts: int = Field(10, ge=1, description="attempts that end in a transient fault before a job is dead")
    max_losses: int = Field(3, ge=1, description="worker processes a job may lose before it is dead")
    retry_seconds: float = Field(2.0, gt=0, description="wait before the first retry; doubles each time")
    max_retry_seconds: float = Field(300.0, gt=0, description="longest wait before a retry")
    lease_seconds: float = Field(
        30.0, ge=1, description="a running job that is not heard of for so long is lost, and runs again"
    )
    visibility_timeout_seconds: int = Field(
        300, ge=10, description="a message unacknowledged this long is delivered again (the job is not run twice)"
    )
    runway: int = Field(4, ge=1, le=100, description="messages that wait in Celery's queues for each warm child")
    max_backlog: int = Field(1_000_000, ge=1, description="most jobs that may wait; more are refused with 429")
    max_batch: int = Field(100_000, ge=1, description="most jobs in one batch")
    time_limit_factor: float = Field(
        20.0, gt=0, description="longest a job may take, in lengths of its audio, once that is known"
    )
    time_limit_seconds: float = Field(600.0, gt=0, description="longest a job may take besides that, in seconds")
    retention_seconds: int = Field(
        7 * 86400, ge=60, description="how long finished jobs and their reports stay in Redis"
    )
    dead_letter_retention_seconds: int = Field(
        30 * 86400, ge=60, description="how long dead jobs stay in Redis, to be looked at and replayed"
    )
    reconcile_prefixes: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="s3://bucket/prefix/ of calls that are all to have a report, comma-separated"
    )
    reconcile_seconds: int = Field(
        0, ge=0, description="how often jobs are entered for those that have none; 0: never by itself"
    )
    reconcile_by_rules: bool = Field(
        False, description="the rules for uploads say which of them, under which options (docs/triggers.md)"
    )

    @field_validator("reconcile_prefixes")
    @classmethod
    def _are_s3_uris(cls, uris: tuple[str, ...]) -> tuple[str, ...]:
        if bad := [uri for uri in uris if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9](/.*)?", uri)]:
            raise ValueError(f"{len(bad)} of them not of the form s3://bucket/prefix/")
        return uris


class WorkerSettings(Section):
    """One worker: a parent and its warm children."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}WORKER_")

    children: int = Field(0, ge=0, description="warm children; 0: planned, see `warmline doctor --plan`")
    engine_hosts: str = Field(
        "auto",
        pattern=r"^(auto|\d{1,2})$",
        description="processes that hold the model for all children; auto: planned; 0: each child holds it itself",
    )
    lanes: Annotated[tuple[Literal["live", "bulk"], ...], NoDecode] = Field(
        ("live", "bulk"), description="lanes this worker takes jobs from, comma-separated"
    )
    live_children: int = Field(
        1, ge=0, description="children beside those, kept free for the live lane; 0 where only one lane is served"
    )
    grace_seconds: float = Field(
        30.0, gt=0, description="how long a job that runs may go on after SIGTERM before it is handed back"
    )
    load_timeout_seconds: float = Field(600.0, gt=0, description="longest time a child may take to get warm")
    replacement_timeout_seconds: float = Field(
        75.0,
        gt=0,
        description="the same for one that replaces another; three times the first ones' time if that is more",
    )
    heartbeat_seconds: float = Field(5.0, gt=0, description="how often readiness is written to Redis")
    missing_seconds: float = Field(
        900.0, ge=0, description="how long a worker that fell silent without a word is reported as missing"
    )
    stalled_seconds: float = Field(
        60.0,
        gt=0,
        description="with free children and waiting jobs, a worker that takes none for so long is stalled",
    )
    scratch_dir: Path = Field(Path("/tmp/warmline"), description="where calls lie while they are analysed")  # noqa: S108

    @property
    def hosts_asked_for(self) -> int | None:
        """The number of engine hosts; None: to be planned."""
        return None if self.engine_hosts == "auto" else int(self.engine_hosts)

    @property
    def reserved_children(self) -> int:
        """How many children this worker has for the live lane alone: none where there is no other lane."""
        return self.live_children if len(set(self.lanes)) > 1 else 0


class ApiSettings(Section):
    """The HTTP service."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}API_")

    host: str = Field("127.0.0.1", description="address to bind; beyond loopback only with keys")
    port: int = Field(8000, ge=1, le=65535, description="port to bind")
    keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="accepted API keys (Authorization: Bearer), comma-separated"
    )
    url: str = Field("", description="where clients reach the API; empty: built from host and port")
    max_body_bytes: int = Field(16 * 1024**2, gt=0, description="largest request body, in bytes")

    @property
    def base_url(self) -> str:
        """The address that clients use, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.url.rstrip("/") or f"http://{host}:{self.port}"


class FlowerSettings(Section):
    """Flower, which watches the workers."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}FLOWER_")

    host: str = Field("127.0.0.1", description="address to bind")
    port: int = Field(5555, ge=1, le=65535, description="port to bind")
    user: str = Field("warmline", description="user name for basic auth")
    password: SecretStr = Field(SecretStr(""), description="password for basic auth; Flower needs one to start")
    state_dir: str = Field(
        "", description="where it keeps what it has seen, so that a restart forgets nothing; empty: in memory only"
    )
    url_prefix: str = Field(
        "",
        pattern=r"^(/?[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?/?$",
        description="path below which a proxy serves it; then the proxy's X-Real-Ip and X-Scheme are believed",
    )


class StackSettings(Section):
    """The one-machine stack (`warmline up`)."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}STACK_")

    data_dir: Path = Field(Path(".warmline"), description="where the stack keeps its data, logs and passwords")
    valkey_port: int = Field(6379, ge=1, le=65535, description="embedded Valkey; the next free one if taken")
    s3_port: int = Field(8333, ge=1, le=65535, description="embedded S3; the next free one if taken")
    embed_redis: bool = Field(True, description="false: use WARMLINE_REDIS_URL as it is")
    embed_s3: bool = Field(True, description="false: use the WARMLINE_S3_ settings as they are")
    triggers: bool = Field(True, description="uploads to the embedded S3's source buckets become jobs")
    start_timeout_seconds: float = Field(300.0, gt=0, description="longest time a part may take to answer")
    max_deaths: int = Field(5, ge=1, description="deaths of one part within ten minutes before all is stopped")


class LogSettings(Section):
    """One log shape for all processes."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}LOG_")

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="lowest level shown")
    format: Literal["json", "console"] = Field("json", description="json for machines, console for people")
    mask_keys: bool = Field(
        False,
        description="true: keys of calls, which may hold phone numbers, are shown as digests, in traces too",
    )


class MetricsSettings(Section):
    """What Prometheus reads, and a worker's own probes."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}METRICS_")

    host: str = Field("127.0.0.1", description="address that a worker binds for /live, /ready and /metrics")
    port: int = Field(
        9464, ge=0, le=65535, description="port of a worker's /live, /ready and /metrics; 0: a worker has none"
    )
    token: SecretStr = Field(
        SecretStr(""),
        description="who scrapes /metrics sends it (Authorization: Bearer); a worker needs it beyond loopback",
    )


class TracingSettings(Section):
    """OpenTelemetry traces: a job's way from its submission through every stage."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}TRACING_")

    endpoint: str = Field("", description="an OTLP/HTTP receiver, e.g. http://localhost:4318; empty: no traces")
    headers: SecretStr = Field(
        SecretStr(""), description="sent along, comma-separated: authorization=Bearer ...,x-tenant=calls"
    )
    sample_ratio: float = Field(1.0, ge=0, le=1, description="share of jobs that are traced")

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        if url and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
            raise ValueError("not of the form http://host:4318")
        return url.rstrip("/")

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: SecretStr) -> SecretStr:
        for place, header in enumerate(filter(None, headers.get_secret_value().split(",")), 1):
            if not re.fullmatch(r"\s*[A-Za-z0-9\-_.]+\s*=[\x20-\x7e]*", header):  # not repeated: it is a secret
                raise ValueError(f"header {place} is not of the form name=value")
        return headers


class GeneralSettings(Section):
    """What belongs to no single part."""

    results: Literal["redis", "s3", "both"] = Field("both", description="where reports are put")


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


def _with_password(url: str, password: str) -> str:
    """A server's URL with this password, unless it has one."""
    parts = urlsplit(url)
    user, _, server = parts.netloc.rpartition("@")
    if ":" in user:
        return url
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{server}"))


def _read_secret_files(given: dict[str, str], *, but: Container[str]) -> dict[str, str]:
    """The secrets that lie in files, except for those variables: variable -> secret. Raises SettingsError."""
    found = {}
    for name, variable in secret_files().items():
        if variable in but or not given.get(name):
            continue  # an empty one is as if it were not there: compose files hand on what nobody set
        if given.get(variable):
            raise SettingsError(f"{variable} and {name} are both set: which one is meant? Leave one out.")
        found[variable] = _read_secret_file(name, Path(given[name]))
    return found


def _read_secret_file(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(MOST_SECRET_BYTES + 1).decode().rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"{name} names {path}, which cannot be read: {error.strerror}") from None
    except ValueError:
        raise SettingsError(f"{name} names {path}, which is not text in UTF-8") from None
    if not text:
        raise SettingsError(f"{name} names {path}, which is empty")
    if len(text) > MOST_SECRET_BYTES:
        raise SettingsError(f"{name} names {path}, which is longer than {MOST_SECRET_BYTES} bytes")
    if not text.isprintable():
        raise SettingsError(f"{name} names {path}, which has more than one line, or characters that none can type")
    return text


def _fault_of_address(url: str) -> str:
    """What is wrong with an address that events are to be posted to; '' if nothing is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "cannot be read"
    if parts.scheme not in {"http", "https"} or not parts.hostname or not url.isprintable() or " " in url:
        return "is not of the form https://host/path"
    if parts.username is not None or parts.password is not None:
        return "has a user or a password: events are signed instead"
    return "has a port that is none" if port == 0 else "has a fragment (#)" if parts.fragment else ""


def _is_webhook_secret(text: str) -> bool:
    """As Standard Webhooks has it: whsec_ and 24 to 64 bytes in base64."""
    try:
        return text.startswith("whsec_") and 24 <= len(b64decode(text.removeprefix("whsec_"), validate=True)) <= 64
    except ValueError:
        return False


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
    return "; ".join(
        f"{names.get(str(problem['loc'][0]), str(problem['loc']))} has a bad value: {problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False)
    )
