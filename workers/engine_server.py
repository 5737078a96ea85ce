"""One engine for many clients: their windows are scored together, and what breaks breaks for one call only.

Four kinds of threads: one a client reads its requests, one a client writes its answers, one prepares the next
batch, and the caller of `run` infers the present one. Memory is bounded by what clients may have in flight, and by
two batches.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import structlog

from warmline.emotion.engine import SAMPLE_RATE, Embeddings, Engine, Scores, warm
from warmline.emotion.host_wire import (
    INVALID_WINDOWS,
    REQUESTS_IN_FLIGHT,
    BadFrame,
    Failed,
    Hello,
    Scored,
    receive_request,
    send_answer,
    send_hello,
)
from warmline.jobs.errors import InternalError, OutOfMemory, WarmlineError
from workers.engine_board import Board, Order, Piece

log = structlog.get_logger()

# A window of two minutes (granularity=utterance) takes the large model as long on a slow CPU. A longer one's time
# grows with the square of its length.
LONGEST_BATCH_SECONDS = 600.0
LONG_WINDOW_SECONDS = 120.0


@dataclass
class Counts:
    """What a host has done."""

    batches: int = 0
    windows: int = 0
    shared_batches: int = 0  # with windows of more than one request
    repeated_batches: int = 0  # failed as a whole, and were scored again request by request
    seconds: float = 0.0  # that the engine worked


class EngineBroken(Exception):
    """The engine fails with any window now: only a new process helps."""


@dataclass(eq=False)
class _Client:
    connection: socket.socket
    unanswered: set[int] = field(default_factory=set)
    # None ends the thread that writes them. One a client, because embeddings do not fit into a socket's buffer:
    # a client that does not read would hold all the others.
    answers: queue.SimpleQueue[tuple[int, Scored | Failed] | None] = field(default_factory=queue.SimpleQueue)


@dataclass(frozen=True)
class _Prepared:
    pieces: list[Piece]
    input: Any
    error: Exception | None


class EngineServer:
    """Serves a warm engine on a listening socket."""

    def __init__(self, engine: Engine, listener: socket.socket) -> None:
        self.counts = Counts()
        self._engine = engine
        self._listener = listener
        self._board = Board()
        self._clients: set[_Client] = set()
        self._prepared: queue.Queue[_Prepared | None] = queue.Queue()
        self._room = threading.Semaphore(1)  # one batch is prepared ahead, and no sooner than the last is begun
        self._preparing = threading.Lock()
        self._working_until: float | None = None  # at the latest, unless the engine is stuck

    @property
    def stuck(self) -> bool:
        """Whether the engine has been at one batch for so long that it will not come back."""
        until = self._working_until
        return until is not None and time.monotonic() > until

    def run(self) -> None:
        """Serves until `close`. Raises EngineBroken where no window can be scored any more."""
        for target in (self._accept, self._prepare_batches):
            threading.Thread(target=target, name=target.__name__, daemon=True).start()
        # On a GPU `infer` returns before it is done: the next batch is begun first, so that the GPU never waits.
        overlaps = self._engine.info.device != "cpu"
        begun: tuple[_Prepared, Any] | None = None
        while True:
            prepared = self._next_prepared(wait=begun is None)
            if prepared is None and begun is None:
                return
            at_work = [each.pieces for each in (prepared, begun and begun[0]) if each is not None]
            self._working_until = time.monotonic() + max(map(longest_seconds, at_work))
            next_begun = self._begin(prepared) if prepared is not None else None
            if begun is not None:
                self._finish(*begun)
            begun = next_begun
            if begun is not None and not overlaps:
                self._finish(*begun)
                begun = None
            if begun is None:
                self._working_until = None

    def close(self) -> None:
        """Ends `run`, and hangs up on all clients."""
        self._board.close()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        for client in tuple(self._clients):
            with suppress(OSError):
                client.connection.shutdown(socket.SHUT_RDWR)

    def log_counts(self) -> None:
        """What was done, in a line of the log."""
        log.info("engine_host_counts", **asdict(self.counts))

    # Clients

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            client = _Client(connection)
            self._clients.add(client)
            for target in (self._read, _write):
                threading.Thread(target=target, args=(client,), name=target.__name__, daemon=True).start()

    def _read(self, client: _Client) -> None:
        engine = self._engine
        try:
            send_hello(
                client.connection,
                Hello(
                    info=engine.info,
                    min_samples=engine.min_samples,
                    windows_at_once=engine.windows_at_once,
                    embedding_dimensions=engine.embedding_dimensions,
                ),
            )
            while True:
                request = receive_request(client.connection)
                if len(client.unanswered) >= REQUESTS_IN_FLIGHT or request.number in client.unanswered:
                    raise BadFrame(f"more than {REQUESTS_IN_FLIGHT} requests in flight")  # noqa: TRY301
                client.unanswered.add(request.number)
                answer = partial(_answer, client, request.number)
                self._board.add(client, Order(request.windows, answer, request.embeddings))
        except (EOFError, OSError):
            pass  # it has ended, or been killed
        except BadFrame as error:
            log.error("client_refused", reason=str(error))  # noqa: TRY400  # the traceback tells nothing
        finally:
            self._board.remove(client)
            self._clients.discard(client)
            with suppress(OSError):
                client.connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that writes
            client.answers.put(None)

    # Batches

    def _prepare_batches(self) -> None:
        while True:
            self._room.acquire()
            pieces = self._board.take(self._engine.windows_at_once)
            if not pieces:
                self._prepared.put(None)
                return
            try:
                with self._preparing:
                    prepared = _Prepared(pieces, self._engine.prepare([piece.samples for piece in pieces]), None)
            except Exception as error:  # noqa: BLE001  # reported where the batch is scored again
                prepared = _Prepared(pieces, None, error)
            self._prepared.put(prepared)

    def _next_prepared(self, *, wait: bool) -> _Prepared | None:
        try:
            prepared = self._prepared.get(block=wait)
        except queue.Empty:
            return None
        self._room.release()
        return prepared

    def _begin(self, prepared: _Prepared) -> tuple[_Prepared, Any] | None:
        started = time.perf_counter()
        try:
            if prepared.error is not None:
                raise prepared.error  # noqa: TRY301
            return prepared, self._engine.infer(prepared.input, embeddings=_want_embeddings(prepared.pieces))
        except Exception as error:  # noqa: BLE001  # reported by what follows
            self._score_apart(prepared.pieces, error)
            return None
        finally:
            self.counts.seconds += time.perf_counter() - started

    def _finish(self, prepared: _Prepared, output: Any) -> None:
        started = time.perf_counter()
        try:
            scores, embeddings = self._bring(prepared.pieces, output)
        except Exception as error:  # noqa: BLE001  # reported by what follows
            self._score_apart(prepared.pieces, error)
        else:
            _deliver(prepared.pieces, scores, embeddings)
        pieces = prepared.pieces
        self.counts.batches += 1
        self.counts.windows += len(pieces)
        self.counts.shared_batches += len({id(piece.order) for piece in pieces}) > 1
        self.counts.seconds += time.perf_counter() - started

    def _bring(self, pieces: Sequence[Piece], output: Any) -> tuple[Scores, Embeddings | None]:
        scores = self._engine.finish(output)
        return scores, self._engine.embeddings(output) if _want_embeddings(pieces) else None

    def _score_apart(self, pieces: Sequence[Piece], error: Exception) -> None:
        """A batch has failed: each order's windows again by themselves, so that only the broken one fails."""
        by_order: dict[int, list[Piece]] = {}
        for piece in pieces:
            by_order.setdefault(id(piece.order), []).append(piece)
        if len(by_order) == 1:
            pieces[0].order.fail(self._explain(error))
            return
        self.counts.repeated_batches += 1
        log.warning("batch_scored_apart", windows=len(pieces), calls=len(by_order), error=type(error).__name__)
        for own in by_order.values():
            try:
                with self._preparing:
                    prepared = self._engine.prepare([piece.samples for piece in own])
                    output = self._engine.infer(prepared, embeddings=_want_embeddings(own))
                    scores, embeddings = self._bring(own, output)
            except Exception as own_error:  # noqa: BLE001  # reported to whom it belongs
                own[0].order.fail(self._explain(own_error))
            else:
                _deliver(own, scores, embeddings)

    def _explain(self, error: Exception) -> Failed:
        """What a client is told. Raises EngineBroken where the fault is not in the windows."""
        if isinstance(error, WarmlineError):
            return Failed(code=error.code, message=error.message)
        if isinstance(error, MemoryError):
            return Failed(code=OutOfMemory.code, message=OutOfMemory().message)
        if isinstance(error, ValueError):
            return Failed(code=INVALID_WINDOWS, message=str(error))
        log.error("engine_failed", exc_info=error)
        try:
            warm(self._engine)
        except Exception as again:  # noqa: BLE001  # whatever it is, it is the same for every window
            # A GPU's context, for one, is never usable again after some faults.
            raise EngineBroken(f"{type(again).__name__}: {again}") from error
        return Failed(code=InternalError.code, message=InternalError().message)


def longest_seconds(pieces: Sequence[Piece]) -> float:
    """How long the engine may be at these windows before it is taken for stuck."""
    longest = max((piece.samples.size for piece in pieces), default=0) / SAMPLE_RATE
    return LONGEST_BATCH_SECONDS * max(1.0, longest / LONG_WINDOW_SECONDS) ** 2


def _answer(client: _Client, number: int, outcome: Scored | Failed) -> None:
    client.answers.put((number, outcome))


def _write(client: _Client) -> None:
    """A client's answers, one after another, until there are no more; closes its connection then."""
    while (answer := client.answers.get()) is not None:
        # Before it is sent: its client may send the next request as soon as it has read this.
        client.unanswered.discard(answer[0])
        with suppress(OSError):  # it has gone, as its other thread will notice
            send_answer(client.connection, *answer)
    client.connection.close()


def _want_embeddings(pieces: Sequence[Piece]) -> bool:
    return any(piece.order.embeddings for piece in pieces)


def _deliver(pieces: Sequence[Piece], scores: Scores, embeddings: Embeddings | None) -> None:
    for place, piece in enumerate(pieces):
        piece.order.put(piece.index, scores[place], None if embeddings is None else embeddings[place])
