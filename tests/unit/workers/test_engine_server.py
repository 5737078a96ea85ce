"""One engine for several clients: a real engine behind a real socket, without processes.

The engine is the tiny random model in torch, which here runs several windows at once as it does on a GPU.
"""

from __future__ import annotations

import dataclasses
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.random_model import write_random_model
from config.settings import EmotionSettings
from tests.servers import wait_until
from warmline.emotion.engine import Embeddings, Engine, Samples, Scores, score
from warmline.emotion.host_wire import connect, listen, send_request
from warmline.emotion.hosted_engine import HostedEngine, Link
from warmline.emotion.loading import load_engine
from warmline.jobs.errors import EngineLost, InternalError, OutOfMemory
from workers.engine_server import EngineBroken, EngineServer

WINDOWS_AT_ONCE = 4
MARK = 7.0  # a window whose first sample is this breaks the engine


class HeldEngine:
    """A real engine that waits before each batch until it is let on, writes batches down, and breaks on order."""

    def __init__(self, engine: Engine) -> None:
        self.info, self.min_samples = engine.info, engine.min_samples
        self.windows_at_once = WINDOWS_AT_ONCE
        self.embedding_dimensions = engine.embedding_dimensions
        self.batches: list[list[int]] = []  # sizes of the windows
        self.turns = threading.Semaphore(0)
        self.error: Exception | None = None
        self.broken_for_good = False
        self._engine = engine

    def prepare(self, windows: Sequence[Samples]) -> tuple[Sequence[Samples], Any]:
        return windows, self._engine.prepare(windows)

    def infer(self, prepared: tuple[Sequence[Samples], Any], *, embeddings: bool = False) -> Any:
        windows, inner = prepared
        self.batches.append([window.size for window in windows])
        self.turns.acquire()
        if self.error is not None and (self.broken_for_good or any(window[0] == MARK for window in windows)):
            raise self.error
        return self._engine.infer(inner, embeddings=embeddings)

    def finish(self, output: Any) -> Scores:
        return self._engine.finish(output)

    def embeddings(self, output: Any) -> Embeddings:
        return self._engine.embeddings(output)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    directory = tmp_path_factory.mktemp("tiny")
    model = write_random_model(directory / "tiny", "tiny")
    return load_engine(EmotionSettings(model=str(model), models_dir=directory, device="cpu"), threads=1)


@pytest.fixture
def held(plain: Engine) -> HeldEngine:
    return HeldEngine(plain)


class Serving:
    """A server in a thread, and its clients."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self.clients: list[HostedEngine] = []
        self.links: list[Link] = []
        self.failure: list[BaseException] = []
        self.start(engine)

    def start(self, engine: Engine) -> None:
        self.engine = engine
        self.path.unlink(missing_ok=True)
        self.listener = listen(self.path)
        self.server = EngineServer(engine, self.listener)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.server.run()
        except EngineBroken as error:
            self.failure.append(error)

    def client(self) -> HostedEngine:
        self.clients.append(HostedEngine(self.path, on_link=self.links.append))
        return self.clients[-1]

    def close(self) -> None:
        if isinstance(self.engine, HeldEngine):
            self.engine.turns.release(1000)
        for client in self.clients:
            client.close()
        self.stop()

    def stop(self) -> None:
        self.server.close()
        self.thread.join(60)
        self.listener.close()
        assert not self.thread.is_alive()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Engine], Serving]]:
    serving: list[Serving] = []

    def start(engine: Engine) -> Serving:
        serving.append(Serving(tmp_path / "engine", engine))
        return serving[-1]

    yield start
    for one in serving:
        one.close()


def noise(seconds: float, *, seed: int = 0, mark: bool = False) -> Samples:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * 16_000)).astype(np.float32) * 0.1
    if mark:
        samples[0] = MARK
    return samples


def waits(serving: Serving) -> int:
    """Windows that wait on the server's board."""
    return sum(map(len, serving.server._board._waiting.values()))


def test_scores_are_those_of_the_engine_itself(serve: Callable[[Engine], Serving], plain: Engine) -> None:
    client = serve(plain).client()
    windows = [noise(seconds, seed=seed) for seed, seconds in enumerate((0.5, 2.0, 1.0, 0.7, 3.1))]
    assert (client.info, client.min_samples) == (plain.info, plain.min_samples)
    np.testing.assert_allclose(score(client, windows), score(plain, windows), atol=1e-6)


def test_embeddings_come_to_who_asks_and_to_nobody_else(
    serve: Callable[[Engine], Serving], held: HeldEngine, plain: Engine
) -> None:
    # Given two calls in one batch, one of which wants embeddings
    serving = serve(held)
    asking, other = serving.client(), serving.client()
    blocker = other.infer(other.prepare([noise(0.5)]))
    wait_until(lambda: len(held.batches) == 1, "the engine is busy")
    windows = [noise(seconds, seed=seed) for seed, seconds in enumerate((1.0, 0.6, 2.0))]
    wanted = asking.infer(asking.prepare(windows), embeddings=True)
    wait_until(lambda: waits(serving) + len(windows) > 0 and serving.server._prepared.qsize() == 1, "it waits")
    plainly = other.infer(other.prepare([noise(0.9)]))
    # When they are scored
    held.turns.release(100)
    # Then it has the engine's own, in the order of its windows, whatever is asked for first
    expected = plain.embeddings(plain.infer(plain.prepare(windows)))
    np.testing.assert_allclose(asking.embeddings(wanted), expected, atol=1e-5)
    np.testing.assert_allclose(asking.finish(wanted), score(plain, windows), atol=1e-6)
    assert asking.embeddings(wanted).shape == (3, plain.embedding_dimensions) == (3, asking.embedding_dimensions)
    # And the other has none
    for answer in (blocker, plainly):
        assert other.finish(answer).shape == (1, len(plain.info.labels))
        with pytest.raises(ValueError, match="without asking"):
            other.embeddings(answer)


def test_a_client_that_does_not_read_its_embeddings_holds_nobody(
    serve: Callable[[Engine], Serving], plain: Engine
) -> None:
    # Given a client that asks for more embeddings than its socket has room for, twice, and does not read
    serving = serve(plain)
    with connect(serving.path) as stopped:
        wait_until(lambda: len(serving.server._clients) == 1, "it is known")
        (known,) = serving.server._clients
        known.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least there is: 4.5 KiB
        for number in range(2):
            send_request(stopped, number, [noise(0.05)] * 64, embeddings=True)
        wait_until(lambda: serving.server.counts.windows == 128, "its windows are scored")
        # When another client comes, then it is served
        answer = serving.client().infer([noise(1.0)])
        assert answer.result(timeout=60).scores.shape[0] == 1
        # And the first answer is still on its way, the second behind it
        assert known.answers.qsize() == 1


def test_windows_of_several_calls_are_scored_together_in_fair_turn(
    serve: Callable[[Engine], Serving], held: HeldEngine, plain: Engine
) -> None:
    # Given a busy engine, a long call whose windows wait, and a short one that comes after it
    serving = serve(held)
    long, short = serving.client(), serving.client()
    first = [noise(0.5, seed=seed) for seed in range(WINDOWS_AT_ONCE)]
    begun = [long.infer(long.prepare(first))]
    wait_until(lambda: len(held.batches) == 1, "the engine is busy")
    begun.append(long.infer(long.prepare([noise(1.0, seed=seed) for seed in range(20)])))
    # (one batch of the long call's is prepared ahead)
    wait_until(lambda: waits(serving) == 20 - WINDOWS_AT_ONCE, "the long call waits")
    ours = [noise(0.7, seed=seed) for seed in range(2)]
    answer = short.infer(short.prepare(ours))
    wait_until(lambda: waits(serving) == 20 - WINDOWS_AT_ONCE + 2, "the short call waits")
    # When the engine goes on
    held.turns.release(3)
    # Then the short call's windows are in the very next batch, half of it, and its scores are its own
    np.testing.assert_allclose(short.finish(answer), score(plain, ours), atol=1e-6)
    assert held.batches[2].count(ours[0].size) == 2
    assert len(held.batches[2]) == WINDOWS_AT_ONCE
    assert not begun[1].done()
    assert serving.server.counts.shared_batches == 1
    # And the long call's are too
    held.turns.release(100)
    assert long.finish(begun[0]).shape == (WINDOWS_AT_ONCE, len(plain.info.labels))
    np.testing.assert_allclose(
        long.finish(begun[1]), score(plain, [noise(1.0, seed=seed) for seed in range(20)]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("a secret of ours"), InternalError),
        (OutOfMemory("No room for a window."), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (ValueError("too short"), ValueError),
    ],
    ids=lambda case: case.__name__ if isinstance(case, type) else repr(case),
)
def test_a_broken_window_fails_its_own_call_only(
    serve: Callable[[Engine], Serving], held: HeldEngine, plain: Engine, error: Exception, told: type[Exception]
) -> None:
    # Given three calls in one batch, one of them with a window that breaks the engine
    serving = serve(held)
    clients = [serving.client() for _ in range(4)]
    blocker = clients[3].infer(clients[3].prepare([noise(0.5)] * (2 * WINDOWS_AT_ONCE)))
    wait_until(lambda: len(held.batches) == 1 and waits(serving) == 0, "the engine is busy, a batch is prepared")
    windows = [noise(1.0, seed=seed, mark=seed == 1) for seed in range(3)]
    held.error = error
    answers = []
    for number, (client, window) in enumerate(zip(clients, windows, strict=False)):
        answers.append(client.infer(client.prepare([window])))
        wait_until(lambda count=number + 1: waits(serving) == count, "the call waits")
    # When the batch is scored
    held.turns.release(100)
    clients[3].finish(blocker)
    # Then the broken call has a typed error without the internals, and its neighbours have their scores
    with pytest.raises(told) as caught:
        clients[1].finish(answers[1])
    assert "secret" not in str(caught.value)
    for number in (0, 2):
        np.testing.assert_allclose(
            clients[number].finish(answers[number]), score(plain, [windows[number]]), atol=1e-6
        )
    assert [len(batch) for batch in held.batches] == [4, 4, 3, 1, 1, 1, *([1] if told is InternalError else [])]
    # And the client is served as before
    assert clients[1].finish(clients[1].infer(clients[1].prepare([windows[0]]))).shape[0] == 1


def test_a_window_of_nan_stays_with_its_call(serve: Callable[[Engine], Serving], plain: Engine) -> None:
    client = serve(plain).client()
    windows = [noise(1.0), np.full(16_000, np.nan, np.float32), noise(1.0, seed=1)]
    scores = score(client, windows)
    assert np.isnan(scores[1]).all()
    np.testing.assert_allclose(scores[[0, 2]], score(plain, [windows[0], windows[2]]), atol=1e-6)


def test_a_client_that_dies_costs_the_others_nothing(
    serve: Callable[[Engine], Serving], held: HeldEngine, plain: Engine
) -> None:
    # Given a client with a window that is being scored and many that wait, and another client
    serving = serve(held)
    dying, other = connect(serving.path), serving.client()
    send_request(dying, 1, [noise(0.5)] * 2)
    wait_until(lambda: len(held.batches) == 1, "the engine is busy")
    send_request(dying, 2, [noise(0.6)] * 50)
    wait_until(lambda: waits(serving) > 0, "its windows wait")
    answer = other.infer(other.prepare([noise(1.0)]))
    # When it dies, then nobody scores what it had waiting
    dying.close()
    wait_until(lambda: waits(serving) == 1, "its windows are forgotten")
    held.turns.release(100)
    np.testing.assert_allclose(other.finish(answer), score(plain, [noise(1.0)]), atol=1e-6)
    assert sum(map(len, held.batches)) == 2 + WINDOWS_AT_ONCE + 1


NONSENSE = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"WLe2" + b"\x02\0\0\0" + b"\xff" * 8,  # too long
    b"WLe2" + b"\x63" * 12,  # of no kind
    b"WLe2" + struct.pack("=IQ", 2, 16) + struct.pack("=QII", 1, 0, 9),  # nine windows in no bytes
    b"WLe2" + struct.pack("=IQ", 2, 20) + struct.pack("=QIII", 1, 2, 1, 0),  # a wish that there is not
    b"WLe1" + struct.pack("=IQ", 2, 16) + struct.pack("=QII", 1, 1, 0),  # the protocol before this one
)


@pytest.mark.parametrize("said", NONSENSE, ids=lambda said: said[4:12].hex())
def test_a_peer_that_speaks_nonsense_is_hung_up_on(
    serve: Callable[[Engine], Serving], plain: Engine, said: bytes
) -> None:
    serving = serve(plain)
    with connect(serving.path) as peer:
        peer.sendall(said)
        wait_hung_up(peer)
    assert score(serving.client(), [noise(1.0)]).shape[0] == 1


def test_one_that_sends_more_than_it_may_have_in_flight_is_hung_up_on(
    serve: Callable[[Engine], Serving], held: HeldEngine
) -> None:
    serving = serve(held)
    with connect(serving.path) as peer:
        for number in range(3):
            send_request(peer, number, [noise(1.0)])
        wait_hung_up(peer)
    held.turns.release(100)


def wait_hung_up(peer: socket.socket) -> None:
    """Reads the hello, and then the end; which is an error where something sent was not read any more."""
    peer.settimeout(10)
    with suppress(ConnectionResetError):
        while peer.recv(65536):
            pass


@pytest.mark.parametrize(("seconds", "patience"), [(5, 600), (120, 600), (300, 3750)])
def test_an_engine_gets_longer_for_a_long_window_before_it_is_taken_for_stuck(
    serve: Callable[[Engine], Serving], held: HeldEngine, seconds: int, patience: int
) -> None:
    # Given an engine that is at a window, which it will refuse in the end
    serving = serve(held)
    held.error, held.broken_for_good = ValueError("no"), True
    client = serving.client()
    answer = client.infer([noise(seconds)])
    wait_until(lambda: len(held.batches) == 1, "the engine is busy")
    # Then it is given the time that such a window may take
    assert serving.server._working_until == pytest.approx(time.monotonic() + patience, abs=20)
    assert not serving.server.stuck
    # And none when it has nothing to do
    held.turns.release(100)
    with pytest.raises(ValueError, match="no"):
        client.finish(answer)
    wait_until(lambda: serving.server._working_until is None, "it has nothing to do")


def test_an_engine_that_fails_with_every_window_ends_its_host(
    serve: Callable[[Engine], Serving], held: HeldEngine
) -> None:
    # Given an engine that is broken for good, as a GPU's context can be
    serving = serve(held)
    client = serving.client()
    held.error, held.broken_for_good = RuntimeError("illegal memory access"), True
    held.turns.release(100)
    # When it has failed, then its process is not used any more
    answer = client.infer(client.prepare([noise(1.0)]))
    serving.thread.join(60)
    assert [str(error) for error in serving.failure] == ["RuntimeError: illegal memory access"]
    serving.server.close()
    with pytest.raises(EngineLost):
        client.finish(answer)


def test_what_was_in_flight_is_lost_with_the_host_and_the_next_host_is_joined(
    serve: Callable[[Engine], Serving], held: HeldEngine, plain: Engine
) -> None:
    # Given a client with two requests in flight
    serving = serve(held)
    client = serving.client()
    answers = [client.infer(client.prepare([noise(1.0)])) for _ in range(2)]
    wait_until(lambda: len(held.batches) == 1, "the engine is busy")
    # When the host goes
    held.turns.release(100)
    held.error, held.broken_for_good = RuntimeError("gone"), True
    serving.stop()
    # Then both are lost, and so is what comes after, at once
    for answer in answers:
        with pytest.raises(EngineLost):
            client.finish(answer)
    wait_until(lambda: serving.links == [Link.LOST], "the client was told")
    assert not client.joined
    with pytest.raises(EngineLost):
        client.infer(client.prepare([noise(1.0)]))
    # When there is a new one, then it is used
    again = HeldEngine(plain)
    again.turns.release(100)
    serving.start(again)
    client.wait_joined()
    assert score(client, [noise(1.0)]).shape[0] == 1
    wait_until(lambda: serving.links == [Link.LOST, Link.JOINED], "the client was told")


def test_a_host_with_another_model_is_not_joined(
    serve: Callable[[Engine], Serving], held: HeldEngine, plain: Engine
) -> None:
    # Given a client, whose calls must not be of two models
    serving = serve(held)
    client = serving.client()
    # When its host goes and one with another model comes
    serving.stop()
    other = HeldEngine(plain)
    other.info = dataclasses.replace(plain.info, model_hash="0" * 64)
    serving.start(other)
    # Then it stays lost, and says so
    wait_until(lambda: serving.links == [Link.LOST, Link.REPLACED], "the client was told")
    assert not client.joined


def test_a_deep_directory_has_room_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with listen(deep / "engine"), connect(deep / "engine") as connection:
        assert connection.family is socket.AF_UNIX
