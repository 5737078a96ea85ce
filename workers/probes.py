"""A worker's own pages: what a supervisor and Prometheus ask it for.

A thread of the parent serves them, so that they are answered also when the event loop is stuck, which is what one
wants to know. A port that is taken never ends a worker: it is tried again, and said once.
"""

from __future__ import annotations

import hmac
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import structlog
from prometheus_client import CONTENT_TYPE_LATEST

from config.addresses import is_loopback
from config.settings import MetricsSettings, SettingsError

log = structlog.get_logger()

METRICS_PATH: Final = "/metrics"
BIND_AGAIN_SECONDS: Final = 5.0  # a worker that was killed may have left children that hold the port for a moment
REQUEST_SECONDS: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a page says."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "application/json"


Page = Callable[[], Answer]


def metrics_page(text: Callable[[], bytes]) -> Page:
    """The page that Prometheus reads."""
    return lambda: Answer(body=text(), content_type=CONTENT_TYPE_LATEST)


class Probes:
    """Serves pages by their paths. `/metrics` asks for the token where there is one, the others for nothing."""

    def __init__(self, settings: MetricsSettings, pages: Mapping[str, Page]) -> None:
        """Raises SettingsError when other machines could read the metrics without a token."""
        refuse_open_bind(settings)
        self._settings = settings
        self._pages = pages
        self._server: ThreadingHTTPServer | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """In the parent, once its first children are forked. Nothing where the port is 0."""
        if self._settings.port == 0:
            return
        os.register_at_fork(after_in_child=self._close_in_child)
        self._thread = threading.Thread(target=self._serve, name="probes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answers nobody any more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(REQUEST_SECONDS)

    def _serve(self) -> None:
        said = False
        while not self._stopping.is_set():
            try:
                self._server = _Server(self._settings, self._pages)
            except OSError as error:
                if not said:
                    said = True
                    log.warning("metrics_port_taken", port=self._settings.port, error=str(error))
                self._stopping.wait(BIND_AGAIN_SECONDS)
                continue
            with self._server:
                while not self._stopping.is_set():
                    self._server.handle_request()  # returns when there is none for a moment
            return

    def _close_in_child(self) -> None:
        # Else a child that outlives its parent would hold the port.
        if self._server is not None:
            self._server.socket.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    timeout = 0.5

    def __init__(self, settings: MetricsSettings, pages: Mapping[str, Page]) -> None:
        self.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self.pages = pages
        self.token = settings.token.get_secret_value()
        super().__init__((settings.host, settings.port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who hangs up is nobody's business."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "warmline", ""
    timeout = REQUEST_SECONDS

    def do_GET(self) -> None:
        """One of the pages."""
        path = self.path.partition("?")[0]
        page = self.server.pages.get(path)
        if page is None:
            self._send(_said(HTTPStatus.NOT_FOUND, "there is no such page"))
        elif path == METRICS_PATH and not self._has_token():
            self._send(_said(HTTPStatus.UNAUTHORIZED, "send WARMLINE_METRICS_TOKEN as Authorization: Bearer"))
        else:
            self._send(self._ask(page))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's name
        """A probe every second is no news."""

    def _ask(self, page: Page) -> Answer:
        try:
            return page()
        except Exception:  # a page that fails is a 500, with its traceback in the log alone
            log.exception("probe_crashed", path=self.path)
            return _said(HTTPStatus.INTERNAL_SERVER_ERROR, "it failed; see the worker's log")

    def _has_token(self) -> bool:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        token = self.server.token
        same = hmac.compare_digest(given.strip().encode(), token.encode())
        return not token or (scheme.lower() == "bearer" and same)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        if answer.status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(answer.body)


def refuse_open_bind(settings: MetricsSettings) -> None:
    """Raises SettingsError when other machines could read the metrics without a token."""
    if settings.port and not settings.token.get_secret_value() and not is_loopback(settings.host):
        raise SettingsError(
            f"WARMLINE_METRICS_HOST is {settings.host}, which other machines can reach, and "
            "WARMLINE_METRICS_TOKEN is empty: set one, or bind 127.0.0.1"
        )


def _said(status: HTTPStatus, sentence: str) -> Answer:
    return Answer(status=status, body=f"{sentence}\n".encode(), content_type="text/plain; charset=utf-8")
