"""A TCP line to a real server that breaks, or falls silent, in the middle of an answer."""

from __future__ import annotations

import math
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class FailingLine:
    """Forwards connections to `endpoint_url`; cuts or stalls when `after_bytes` of an answer went through."""

    def __init__(self, endpoint_url: str, *, after_bytes: int, stall: bool) -> None:
        target = urlsplit(endpoint_url)
        self._upstream = (target.hostname or "", target.port or 0)
        self._after_bytes = after_bytes
        self._stall = stall
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
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
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed: the test is over
            server = socket.create_connection(self._upstream)
            for args in ((client, server, math.inf), (server, client, self._after_bytes)):
                self._threads.append(threading.Thread(target=self._pump, args=args, daemon=True))
                self._threads[-1].start()

    def _pump(self, source: socket.socket, target: socket.socket, budget_bytes: float) -> None:
        with source, target:
            try:
                while budget_bytes > 0 and (chunk := source.recv(int(min(65536, budget_bytes)))):
                    target.sendall(chunk)
                    budget_bytes -= len(chunk)
                if budget_bytes <= 0 and self._stall:
                    self._over.wait()
            except OSError:
                return  # the other side hung up first, which is what this line is for
