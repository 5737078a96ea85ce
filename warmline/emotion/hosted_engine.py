"""An engine in another process: windows go there and scores come back, so several children need one model only.

Nothing here loads torch. The host may die and come back: what it owed then fails with EngineLost, and a thread
joins the new one as soon as that is warm.
"""

from __future__ import annotations

import enum
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import numpy as np
import structlog

from warmline.emotion.engine import Embeddings, Samples, Scores
from warmline.emotion.host_wire import (
    INVALID_WINDOWS,
    REQUESTS_IN_FLIGHT,
    BadFrame,
    Failed,
    Hello,
    Scored,
    connect,
    receive_answer,
    receive_hello,
    send_request,
)
from warmline.jobs.errors import EngineLost, InternalError, WarmlineError

# A call's share of a batch, at most. A GPU's host takes hundreds of windows at once, but of many calls; and what a
# call has in flight is held in both processes.
REQUEST_WINDOWS = 32
REJOIN_SECONDS = 0.2  # between two attempts, where nobody listens

log = structlog.get_logger()


class Link(enum.Enum):
    """What became of the connection to the host."""

    LOST = "lost"
    JOINED = "joined"  # again, with the same model behind it
    REPLACED = "replaced"  # another model is there now: this engine stays lost


class HostedEngine:
    """Scores windows in a host's process; see `Engine`. `infer` returns when the windows are sent.

    `on_link` is told of changes, from a thread.
    """

    def __init__(self, path: Path, *, on_link: Callable[[Link], None]) -> None:
        """Waits until a host that listens at the path is warm."""
        self._path = path
        self._on_link = on_link
        self._owed: dict[int, Future[Scored]] = {}
        self._next_number = 0
        self._lock = threading.Lock()  # of what is owed and of the connection
        self._slots = threading.Semaphore(REQUESTS_IN_FLIGHT)
        self._joined = threading.Event()
        self._closed = threading.Event()
        self._connection, self._hello = self._join()
        self._joined.set()
        self.info = self._hello.info
        self.min_samples = self._hello.min_samples
        self.embedding_dimensions = self._hello.embedding_dimensions
        self.windows_at_once = min(self._hello.windows_at_once, REQUEST_WINDOWS)
        threading.Thread(target=self._keep, name="hosted-engine", daemon=True).start()

    @property
    def joined(self) -> bool:
        """Whether there is a warm host now."""
        return self._joined.is_set()

    def wait_joined(self) -> None:
        """Returns when there is a warm host."""
        self._joined.wait()

    def prepare(self, windows: Sequence[Samples]) -> list[Samples]:
        """The windows as they are sent: float32, one row each. The host refuses those that are too short."""
        return [np.ascontiguousarray(window, dtype=np.float32) for window in windows]

    def infer(self, prepared: Sequence[Samples], *, embeddings: bool = False) -> Future[Scored]:
        """Sends the windows; waits only while two requests are unanswered. Raises EngineLost.

        Embeddings, a hundred times the size of the scores, are sent back only where they are asked for here.
        """
        self._slots.acquire()
        owed: Future[Scored] = Future()
        with self._lock:
            number, self._next_number = self._next_number, self._next_number + 1
            joined, connection = self._joined.is_set(), self._connection
            if joined:
                self._owed[number] = owed
        if not joined:
            self._slots.release()
            raise EngineLost
        try:
            send_request(connection, number, prepared, embeddings=embeddings)
        except OSError:
            self._settle(number, EngineLost())
        return owed

    def finish(self, output: Future[Scored]) -> Scores:
        """Waits for the scores. Raises EngineLost, and what the host's engine raised for these windows."""
        return output.result().scores

    def embeddings(self, output: Future[Scored]) -> Embeddings:
        """See `Engine`; waits as `finish` does. Raises ValueError where `infer` was not told of it."""
        found = output.result().embeddings
        if found is None:
            raise ValueError("these windows were sent without asking for their embeddings")
        return found

    def close(self) -> None:
        """Hangs up; what is owed is lost."""
        self._closed.set()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _keep(self) -> None:
        while True:
            for number, outcome in self._answers():
                self._settle(number, outcome)
            with self._lock:
                self._joined.clear()
                owed = list(self._owed)
            self._connection.close()
            for number in owed:
                self._settle(number, EngineLost())
            if self._closed.is_set():
                return
            log.warning("engine_lost")
            self._on_link(Link.LOST)
            try:
                connection, hello = self._join()
            except EngineLost:
                return  # closed
            if hello != self._hello:
                connection.close()
                log.error("engine_replaced", was=self.info.model_hash, now=hello.info.model_hash)
                self._on_link(Link.REPLACED)
                return
            with self._lock:
                self._connection = connection
                self._joined.set()
            self._on_link(Link.JOINED)

    def _answers(self) -> Iterator[tuple[int, Scored | Exception]]:
        """Until the host has gone."""
        try:
            while True:
                answer = receive_answer(self._connection)
                if isinstance(answer.outcome, Failed):
                    yield answer.number, _error(answer.outcome)
                else:
                    yield answer.number, answer.outcome
        except (EOFError, OSError):
            return
        except BadFrame:
            log.exception("engine_speaks_nonsense")

    def _settle(self, number: int, outcome: Scored | Exception) -> None:
        with self._lock:
            owed = self._owed.pop(number, None)
        if owed is None:
            return  # lost before, and told so
        self._slots.release()
        if isinstance(outcome, Exception):
            owed.set_exception(outcome)
        else:
            owed.set_result(outcome)

    def _join(self) -> tuple[socket.socket, Hello]:
        while True:
            connection: socket.socket | None = None
            try:
                connection = connect(self._path)
                return connection, receive_hello(connection)
            except (EOFError, OSError):
                if connection is not None:
                    connection.close()
                if self._closed.wait(REJOIN_SECONDS):
                    raise EngineLost from None


def _error(failed: Failed) -> Exception:
    """The host's error again, by its code."""
    if failed.code == INVALID_WINDOWS:
        return ValueError(failed.message)
    kinds = [WarmlineError]
    while kinds:
        kind = kinds.pop()
        if kind.code == failed.code:
            return kind(failed.message)
        kinds += kind.__subclasses__()
    return InternalError()
