"""The client of an S3 store: boto3, built once, as its settings say and at its first use."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from config.settings import S3Settings
from warmline.jobs.errors import ObjectForbidden, StoreMisconfigured
from warmline.objects.failures import store_errors
from warmline.objects.lazy_client import LazyClient
from warmline.objects.requests import RequestSeen, watch_requests
from warmline.objects.timestamps import read_timestamps_quickly
from warmline.telemetry.tracing import current

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECT_SECONDS = 5.0  # a store that is there answers a SYN within this; the read may take its time
ATTEMPTS = 3
SMALL_BODY_BYTES = 256 * 1024  # most reports


class HasS3Client(LazyClient["S3Client"]):
    """What speaks S3. Threads may share it; it connects at first use, so a fork may lie between."""

    def __init__(self, settings: S3Settings, *, attempts: int = ATTEMPTS, seen: RequestSeen | None = None) -> None:
        """`attempts` are tries of each request; the waits between them are the client's own.

        `seen` is called for each request that is over, in the thread that made it.
        """
        super().__init__()
        self._seen = seen
        self._settings = settings
        self._attempts = attempts

    def __repr__(self) -> str:
        return f"{type(self).__name__}(endpoint_url={self._settings.endpoint_url or 'AWS'!r})"

    def _build(self) -> S3Client:
        client = build_client(self._settings, self._attempts)
        watch_requests(client, _trace)
        if self._seen is not None:
            watch_requests(client, self._seen)
        return client


def _trace(operation: str, outcome: str, seconds: float) -> None:
    """A request as a part of the work that made it."""
    ended = time.perf_counter()
    facts = {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": operation, "warmline.outcome": outcome}
    current().past(f"S3 {operation}", ended - seconds, ended, "client", facts)


def build_client(settings: S3Settings, attempts: int = ATTEMPTS) -> S3Client:
    """boto3's client as the settings say. Raises ObjectForbidden, StoreMisconfigured."""
    import boto3  # takes a third of a second, which only a process that reads objects should pay
    import botocore.session
    from botocore.config import Config

    access, secret = settings.access_key.get_secret_value(), settings.secret_key.get_secret_value()
    if bool(access) != bool(secret):
        raise ObjectForbidden("Set both WARMLINE_S3_ACCESS_KEY and WARMLINE_S3_SECRET_KEY, or neither.")
    # Stores other than AWS: buckets have no host names there, and many know no checksum trailers.
    elsewhere: dict[str, Any] = (
        {
            "s3": {"addressing_style": "path"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        if settings.endpoint_url
        else {}
    )
    if on_this_machine(settings.endpoint_url):
        elsewhere["proxies"] = {}  # a company's proxy cannot reach this machine's own store
    config = Config(
        signature_version="s3v4",
        connect_timeout=min(CONNECT_SECONDS, settings.timeout_seconds),
        read_timeout=settings.timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": attempts},
        user_agent_extra="warmline",
        **elsewhere,
    )
    try:
        with store_errors(settings.endpoint_url or "AWS S3"):
            # A session of our own: boto3's default session is shared, and not safe to build from threads.
            session = botocore.session.Session()
            read_timestamps_quickly(session)
            client = boto3.session.Session(botocore_session=session).client(
                "s3",
                endpoint_url=settings.endpoint_url or None,
                region_name=settings.region,
                aws_access_key_id=access or None,
                aws_secret_access_key=secret or None,
                config=config,
            )
            client.meta.events.register_last("before-call.s3", _send_at_once)
            return client
    except ValueError as error:
        raise StoreMisconfigured(
            f"WARMLINE_S3_ENDPOINT_URL is not a usable address: {settings.endpoint_url!r}."
        ) from error


def _send_at_once(params: Any, **_: Any) -> None:
    """Leaves out `Expect: 100-continue` before a small body: asking first would cost more than sending it in vain.

    Against SeaweedFS a report's PUT takes a quarter less of both processors' time without it.
    """
    body = params.get("body")
    if isinstance(body, io.BytesIO) and body.getbuffer().nbytes <= SMALL_BODY_BYTES:
        params["headers"].pop("Expect", None)


def on_this_machine(endpoint_url: str) -> bool:
    """Whether an address is one of this machine's own."""
    try:
        return urlsplit(endpoint_url).hostname in {"localhost", "127.0.0.1", "::1"}
    except ValueError:
        return False  # no address at all, as the client will say
