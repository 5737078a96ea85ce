"""What an engine's host and its clients say to each other: frames of raw bytes over a Unix socket.

    frame    mark (4 bytes), kind, payload's length         then the payload
    HELLO    JSON, a `Hello`                                from the host, once, when its engine is warm
    WINDOWS  number, wish, count, samples of each, float32  a request; wish 1: embeddings too
    SCORES   number, rows, labels, dimensions, float32      the answer: scores, then embeddings if wished for
    FAILURE  number, JSON, a `Failed`                       or this one

Numbers are in the machine's own byte order: both ends run on it. Nothing is unpickled, and a frame is measured
before it is believed.
"""

from __future__ import annotations

import enum
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from warmline.emotion.engine import Embeddings, EngineInfo, Samples, Scores
from warmline.jobs.records import Record

REQUESTS_IN_FLIGHT = 2  # of one client: one that is scored, and the next
MAX_WINDOWS = 4096  # in a request
MAX_PAYLOAD_BYTES = 2**30  # 74 hours of one window, or a peer that is not ours

_MARK = b"WLe2"
_HEAD = struct.Struct("=4sIQ")
_REQUEST = struct.Struct("=QII")
_ANSWER = struct.Struct("=QIII")
_NUMBER = struct.Struct("=Q")


class _Kind(enum.IntEnum):
    HELLO = 1
    WINDOWS = 2
    SCORES = 3
    FAILURE = 4


class BadFrame(ValueError):
    """The peer does not speak this protocol."""


class Hello(Record):
    """A host's engine; see `Engine`."""

    info: EngineInfo
    min_samples: int
    windows_at_once: int
    embedding_dimensions: int


class Failed(Record):
    """Why there are no scores."""

    code: str  # a WarmlineError's, or INVALID_WINDOWS
    message: str


INVALID_WINDOWS = "invalid_windows"  # a ValueError of the engine


@dataclass(frozen=True)
class Request:
    """Windows to be scored, one call's."""

    number: int
    windows: list[Samples]
    embeddings: bool  # are wanted too


@dataclass(frozen=True)
class Scored:
    """What the engine made of a request's windows, a row for each."""

    scores: Scores
    embeddings: Embeddings | None  # None: nobody wanted them


@dataclass(frozen=True)
class Answer:
    """What became of a request."""

    number: int
    outcome: Scored | Failed


def listen(path: Path) -> socket.socket:
    """A socket at this path, whose directory decides who may connect. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    _at(path, listener.bind)
    listener.listen(128)
    return listener


def connect(path: Path) -> socket.socket:
    """A connection to whoever listens there. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _at(path, connection.connect)
    except BaseException:
        connection.close()
        raise
    return connection


def _at(path: Path, call: Any) -> None:
    # A socket's address has room for 107 bytes, and directories may be deep.
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        call(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def send_hello(connection: socket.socket, hello: Hello) -> None:
    """The host's first word. This and all that follow raise OSError when the peer has gone."""
    _send(connection, _Kind.HELLO, hello.model_dump_json().encode())


def send_request(
    connection: socket.socket, number: int, windows: Sequence[Samples], *, embeddings: bool = False
) -> None:
    """Asks for the windows' scores, and for their embeddings. Returns when the bytes are in the socket."""
    sizes = np.array([window.size for window in windows], dtype=np.uint32)
    head = _REQUEST.pack(number, embeddings, len(windows)) + sizes.tobytes()
    _send(connection, _Kind.WINDOWS, head, *(memoryview(window.data).cast("B") for window in windows))


def send_answer(connection: socket.socket, number: int, outcome: Scored | Failed) -> None:
    """Answers the request of this number."""
    if isinstance(outcome, Failed):
        _send(connection, _Kind.FAILURE, _NUMBER.pack(number) + outcome.model_dump_json().encode())
    else:
        scores, embeddings = outcome.scores, outcome.embeddings
        head = _ANSWER.pack(number, *scores.shape, 0 if embeddings is None else embeddings.shape[1])
        parts = [] if embeddings is None else [embeddings.tobytes()]
        _send(connection, _Kind.SCORES, head + scores.tobytes(), *parts)


def receive_hello(connection: socket.socket) -> Hello:
    """Waits until the host is warm. This and all that follow raise EOFError, OSError, and BadFrame."""
    _, payload = _receive(connection, _Kind.HELLO)
    return Hello.model_validate_json(bytes(payload))


def receive_request(connection: socket.socket) -> Request:
    """The next request; its windows share one buffer."""
    _, payload = _receive(connection, _Kind.WINDOWS)
    if len(payload) < _REQUEST.size:
        raise BadFrame("a request is cut short")
    number, wish, count = _REQUEST.unpack_from(payload)
    start = _REQUEST.size + 4 * count
    if not 0 < count <= MAX_WINDOWS or wish > 1 or len(payload) < start:
        raise BadFrame(f"a request of {count} windows in {len(payload)} bytes, with the wish {wish}")
    sizes = np.frombuffer(payload, np.uint32, count, _REQUEST.size)
    if start + 4 * int(sizes.sum(dtype=np.uint64)) != len(payload):
        raise BadFrame("a request of another length than it says")
    samples = np.frombuffer(payload, np.float32, offset=start)
    return Request(number, np.split(samples, np.cumsum(sizes[:-1], dtype=np.int64)), bool(wish))


def receive_answer(connection: socket.socket) -> Answer:
    """The next answer."""
    kind, payload = _receive(connection, _Kind.SCORES, _Kind.FAILURE)
    if kind is _Kind.FAILURE:
        return Answer(_NUMBER.unpack_from(payload)[0], Failed.model_validate_json(bytes(payload[_NUMBER.size :])))
    number, rows, labels, dimensions = _ANSWER.unpack_from(payload)
    if _ANSWER.size + 4 * rows * (labels + dimensions) != len(payload):
        raise BadFrame("an answer of another length than it says")
    numbers = np.frombuffer(payload, np.float32, offset=_ANSWER.size)
    scores, embeddings = np.split(numbers, [rows * labels])
    return Answer(
        number,
        Scored(scores.reshape(rows, labels), embeddings.reshape(rows, dimensions) if dimensions else None),
    )


def _send(connection: socket.socket, kind: _Kind, *parts: bytes | memoryview) -> None:
    head = _HEAD.pack(_MARK, kind, sum(map(len, parts)))
    connection.sendall(head + parts[0])
    for part in parts[1:]:
        connection.sendall(part)


def _receive(connection: socket.socket, *kinds: _Kind) -> tuple[_Kind, bytearray]:
    mark, kind, size = _HEAD.unpack(_read(connection, _HEAD.size))
    if mark != _MARK or kind not in kinds or size > MAX_PAYLOAD_BYTES:
        raise BadFrame(f"a frame {mark!r} of kind {kind} with {size} bytes")
    return _Kind(kind), _read(connection, size)


def _read(connection: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        count = connection.recv_into(view)
        if count == 0:
            raise EOFError("the peer has gone")
        view = view[count:]
    return buffer
