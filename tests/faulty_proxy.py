"""A proxy in front of a real S3 that fails on demand: gone, silent, slow, throttling, or cutting its answers."""

from __future__ import annotations

import math
import socket
import struct
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

SLOW_DOWN = (
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>SlowDown</Code>"
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class Mode(Enum):
    """What happens to a request."""

    REFUSE = auto()  # the connection is reset before a byte is read
    SILENT = auto()  # the request is read, and nothing comes back
    THROTTLE = auto()  # 503 SlowDown
    LOSE_REQUEST = auto()  # the connection is reset before the store has seen the request
    LOSE_ANSWER = auto()  # the store does what was asked, and the connection is reset before its answer
    CUT = auto()  # the connection is reset after `answer_bytes` of the answer
    STALL = auto()  # nothing more comes after `answer_bytes` of the answer
    SLOW = auto()  # the answer's body comes at `bytes_per_second`


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A mode, and which requests it befalls."""

    mode: Mode
    methods: Collection[str] = ("GET", "HEAD", "PUT", "POST", "DELETE")
    of: bytes = b""  # only requests that have this in them: SQS's are all POST /
    times: float = math.inf  # so many requests, then all pass
    answer_bytes: int = 0
    bytes_per_second: int = 0


class FaultyProxy:
    """Forwards HTTP/1.1 to `endpoint_url`, a connection for each request, and fails as it was last told."""

    def __init__(self, endpoint_url: str) -> None:
        target = urlsplit(endpoint_url)
        self._upstream = (target.hostname or "", target.port or 0)
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._left = 0.0
        self._open: set[socket.socket] = set()
        self.failed = 0  # requests that the fault has befallen
        self.answered: list[tuple[str, str, int]] = []  # method, path and status of all that the store answered
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def address(self) -> str:
        """Where clients connect instead."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        with self._lock:
            for connection in (self._listener, *self._open):
                with suppress(OSError):  # the other side was quicker
                    connection.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def fail(self, fault: Fault | None) -> None:
        """From now on; None: everything passes."""
        with self._lock:
            self._fault, self._left, self.failed = fault, fault.times if fault else 0, 0

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Within the block."""
        self.fail(fault)
        try:
            yield
        finally:
            self.fail(None)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed: the test is over
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(threading.Thread(target=self._serve, args=[client], daemon=True))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, self._listed(client):
            client.settimeout(30)
            try:
                refusing = self._fault
                if refusing is not None and refusing.mode is Mode.REFUSE:
                    self._befalls("", refusing.mode)
                    _reset(client)
                    return
                request = _read_request(client)
                if request:
                    fault = self._befalls(request.partition(b" ")[0].decode(), request=request)
                    self._answer(client, request, fault)
            except OSError:
                return  # one side hung up, which is what this proxy is for

    @contextmanager
    def _listed(self, client: socket.socket) -> Iterator[None]:
        """Among the connections that the end of the test cuts."""
        with self._lock:
            self._open.add(client)
        try:
            yield
        finally:
            with self._lock:
                self._open.remove(client)

    def _befalls(self, method: str, mode: Mode | None = None, request: bytes = b"") -> Fault | None:
        with self._lock:
            fault = self._fault
            if fault is None or self._left <= 0 or (mode is None and method not in fault.methods):
                return None
            if fault.of not in request:
                return None
            self._left -= 1
            self.failed += 1
            return fault

    def _answer(self, client: socket.socket, request: bytes, fault: Fault | None) -> None:
        mode = fault.mode if fault else None
        if mode is Mode.SILENT:
            self._over.wait(30)
        elif mode is Mode.THROTTLE:
            head = f"HTTP/1.1 503 Slow Down\r\nContent-Length: {len(SLOW_DOWN)}\r\nConnection: close\r\n\r\n"
            body = b"" if request.startswith(b"HEAD") else SLOW_DOWN
            client.sendall(head.encode() + body)
        elif mode in {Mode.LOSE_REQUEST, Mode.REFUSE}:
            _reset(client)
        else:
            with socket.create_connection(self._upstream, timeout=30) as server:
                server.sendall(request)
                self._carry(server, client, fault, request)

    def _carry(self, server: socket.socket, client: socket.socket, fault: Fault | None, request: bytes) -> None:
        """The store's answer, as far as it is to come."""
        sent_bytes = 0
        while chunk := server.recv(65536):
            if sent_bytes == 0:
                method, target = request.split(b" ", 2)[:2]
                status = int(chunk.split(b" ", 2)[1])
                self.answered.append((method.decode(), target.decode(), status))
            if fault is not None and fault.mode is Mode.LOSE_ANSWER:
                sent_bytes += len(chunk)  # an answer may come in several pieces, and one has its status
                continue
            breaks_off = fault is not None and fault.mode in {Mode.CUT, Mode.STALL}
            if breaks_off and sent_bytes + len(chunk) > fault.answer_bytes:
                client.sendall(chunk[: fault.answer_bytes - sent_bytes])
                if fault.mode is Mode.CUT:
                    _reset(client)
                else:
                    self._over.wait(30)
                return
            if fault is not None and fault.mode is Mode.SLOW:
                if not self._trickle(chunk, client, fault.bytes_per_second):
                    return
            else:
                client.sendall(chunk)
            sent_bytes += len(chunk)
        if fault is not None and fault.mode is Mode.LOSE_ANSWER:
            _reset(client)

    def _trickle(self, chunk: bytes, client: socket.socket, bytes_per_second: int) -> bool:
        """The head at once, the body in small pieces; False when the test is over."""
        piece_bytes = max(1, bytes_per_second // 10)
        start = chunk.find(b"\r\n\r\n") + 4 if chunk.startswith(b"HTTP/") else 0
        client.sendall(chunk[:start])
        for place in range(start, len(chunk), piece_bytes):
            client.sendall(chunk[place : place + piece_bytes])
            if self._over.wait(piece_bytes / bytes_per_second):
                return False
        return True


def _read_request(client: socket.socket) -> bytes:
    """A request, which asks the store to close the connection after its answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = client.recv(65536)
        if not chunk:
            return b""
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    fields = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])
    }
    if fields.get(b"expect", b"").lower() == b"100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while len(body) < int(fields.get(b"content-length", b"0")):
        chunk = client.recv(65536)
        if not chunk:
            return b""
        body += chunk
    # None of these is signed.
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in {b"expect", b"connection"}]
    return b"\r\n".join([*kept, b"Connection: close", b"", body])


def _reset(connection: socket.socket) -> None:
    """Has the connection end by RST when it is closed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
