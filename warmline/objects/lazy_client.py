"""A client of AWS's kind that is built at its first use, once for all threads."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What boto3's clients can do."""

    def close(self) -> None:
        """Closes the connections."""


Client = TypeVar("Client", bound=Closable)


class LazyClient(ABC, Generic[Client]):
    """Has a client. Threads may share it; it connects at first use, so a fork may lie between."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._built: Client | None = None

    def close(self) -> None:
        """Closes the connections; the next call opens new ones."""
        with self._lock:
            client, self._built = self._built, None
        if client is not None:
            client.close()

    def _client(self) -> Client:
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._built

    @abstractmethod
    def _build(self) -> Client:
        """A new client."""
