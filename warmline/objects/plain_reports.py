"""Reports read and replaced by plain HTTP, for whoever does so with very many of them.

boto3 takes more than half of the processor time of such a request for knowing all of S3: its model, which address
a request goes to, what the server is told of the client. Here botocore signs, urllib3 sends, and that is all.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import get_environ_proxies, percent_encode
from urllib3 import HTTPConnectionPool, Timeout
from urllib3.exceptions import HTTPError

from config.settings import S3Settings
from warmline.jobs.records import ReportLocation
from warmline.objects.failures import store_errors
from warmline.objects.lazy_client import LazyClient
from warmline.objects.s3_client import CONNECT_SECONDS, on_this_machine
from warmline.objects.store import ObjectStore

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

CONNECTIONS = 10  # kept open at most, as boto3 does


class PlainReports(ObjectStore):
    """A store whose reports are read and replaced so, where it takes plain HTTP and the keys of the settings.

    Elsewhere boto3 asks. It also asks again whenever the answer is not the one hoped for: it knows what others
    mean and when to try again, so the errors are `ObjectStore`'s. Threads may share it.
    """

    def __init__(self, settings: S3Settings) -> None:
        super().__init__(settings)
        self._plain = _PlainHttp(settings) if takes_plain_http(settings) else None

    def close(self) -> None:
        """See `ObjectStore`."""
        super().close()
        if self._plain is not None:
            self._plain.close()

    def get_report(self, location: ReportLocation) -> bytes:
        """See `ObjectStore`."""
        if self._plain is not None and location.bucket is not None and location.key is not None:
            answer = self._plain.ask("GET", location.bucket, location.key, {})
            if answer is not None and "Content-Length" in answer.headers:
                uri, length_bytes = f"s3://{location.bucket}/{location.key}", int(answer.headers["Content-Length"])
                with store_errors(uri), answer:
                    return b"".join(self._chunks(answer, length_bytes, uri))
        return super().get_report(location)

    def replace_report(self, key: str, body: bytes, etag: str) -> str:
        """See `ObjectStore`."""
        if self._plain is not None:
            headers = {"Content-Type": "application/json", "If-Match": f'"{etag}"'}
            answer = self._plain.ask("PUT", self._settings.results_bucket, key, headers, body)
            if answer is not None:
                answer.drain_conn()  # nothing, but the connection is free for the next one only then
                return str(answer.headers.get("ETag", "")).strip('"')
        return super().replace_report(key, body, etag)


class _PlainHttp(LazyClient[HTTPConnectionPool]):
    """Connections to a store, and what its requests need."""

    def __init__(self, settings: S3Settings) -> None:
        super().__init__()
        self._settings = settings
        self._address = urlsplit(settings.endpoint_url.rstrip("/"))
        self._credentials = Credentials(
            settings.access_key.get_secret_value(), settings.secret_key.get_secret_value()
        )

    def ask(
        self, method: str, bucket: str, key: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> BaseHTTPResponse | None:
        """The answer, its body yet to be read, if its status is 200; else None."""
        target = f"{self._address.path}/{bucket}/{percent_encode(key, safe='/~')}"
        url = f"http://{self._address.netloc}{target}"
        request = AWSRequest(method, url, headers={"User-Agent": "warmline", **headers}, data=body)
        S3SigV4Auth(self._credentials, "s3", self._settings.region).add_auth(request)
        try:
            answer = self._client().urlopen(
                method,
                target,
                body=body,
                headers=dict(request.headers.items()),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except HTTPError:
            return None
        if answer.status == HTTPStatus.OK:
            return answer
        answer.close()  # and its connection: what it says is not worth reading
        return None

    def _build(self) -> HTTPConnectionPool:
        seconds = self._settings.timeout_seconds
        return HTTPConnectionPool(
            str(self._address.hostname),
            self._address.port,
            maxsize=CONNECTIONS,
            timeout=Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds),
        )


def takes_plain_http(settings: S3Settings) -> bool:
    """Whether the store is asked by HTTP, through no proxy, with keys that are in the settings."""
    address = settings.endpoint_url
    if not (settings.access_key.get_secret_value() and settings.secret_key.get_secret_value()):
        return False
    try:
        parts = urlsplit(address)
        is_http = parts.scheme == "http" and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False  # no address at all, as boto3 will say
    return is_http and (on_this_machine(address) or not get_environ_proxies(address))
