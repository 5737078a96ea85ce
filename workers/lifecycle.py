"""A child's life: the model is loaded and has analysed something before the child is asked for anything.

Celery runs `start` in `worker_process_init`, where an exception is swallowed and a child without a model would
serve. So a child that cannot get warm tells its parent and ends itself.
"""

from __future__ import annotations

import dataclasses
import os
import random
import time
import wave
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import structlog
from billiard import current_process

from config.settings import Settings
from warmline.calls.categories.rules import CategoryRules
from warmline.jobs.errors import EngineLost, ObjectNotFound, WarmlineError
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import ChildState, Options, ReportLocation, Source
from warmline.objects.store import ObjectStore
from warmline.telemetry.tracing import Tracing
from workers.announcements import Announcements
from workers.drain import DrainFlag
from workers.engine_hosts import EngineHosts
from workers.pulse import Pulse
from workers.scratch import Scratch
from workers.tally import Tally

if TYPE_CHECKING:
    from warmline.emotion.engine import Engine
    from warmline.emotion.hosted_engine import HostedEngine, Link
    from warmline.emotion.plan import Plan
    from workers.scoring import Desk

log = structlog.get_logger()

MINI_NOTE = "mini model: for trying things out"
# Granularity, seconds, channels. Noise is not speech: only the second one is scored, as one window.
REHEARSALS: tuple[tuple[str, float, int], ...] = (("segment", 20, 2), ("utterance", 0.1, 1))


class WarmChild:
    """What a child has. Made and prepared in the parent, started in the child."""

    def __init__(
        self,
        settings: Settings,
        announcements: Announcements,
        hosts: EngineHosts,
        drain: DrainFlag,
        tally: Tally,
        pulse: Pulse,
    ) -> None:
        """Raises SettingsError where traces are wanted and cannot be made."""
        self._settings = settings
        self._tracing = Tracing(settings, process="worker")
        self._tally = tally
        self._pulse = pulse
        self._drain = drain
        self._announcements = announcements
        self._hosts = hosts
        self._scratch: Scratch | None = None
        self._worker = ""
        self._threads = 1
        self._categories: CategoryRules | None = None
        self._host: HostedEngine | None = None
        self._state: ChildState | None = None
        self._desk: Desk | None = None

    def prepare(
        self, scratch: Scratch, plan: Plan, *, worker: str, categories: CategoryRules | None = None
    ) -> None:
        """In the parent, before it forks: where calls lie, the plan, the name, the rules. Starts the hosts."""
        self._scratch, self._threads, self._worker = scratch, plan.threads, worker
        self._categories = categories
        self._tracing.load()
        self._hosts.start(plan, scratch.directory)

    def start(self) -> None:
        """In the child, before it takes jobs. Does not return when the model cannot be used: the process ends."""
        try:
            self._state = self._get_warm()
            self._announcements.tell_warm(self._state)
        except WarmlineError as error:
            self._give_up(error.message)
        except BaseException as error:  # SystemExit, too: this process must not serve
            log.critical("child_crashed", exc_info=True)
            self._give_up(f"{type(error).__name__}: {error}")

    def desk(self) -> Desk:
        """Where the child works. Raises EngineLost while there is no host to work with."""
        if self._desk is None:
            raise RuntimeError("a job came to a process that is not warm")
        if self._host is not None and not self._host.joined:
            raise EngineLost
        return self._desk

    def end(self, **_: object) -> None:
        """In the child, when it takes no more jobs."""
        self._tracing.stop()

    def clean_up(self) -> None:
        """In the parent, when the children are gone."""
        self._hosts.stop()
        if self._scratch is not None:
            self._scratch.remove()

    def _get_warm(self) -> ChildState:
        from workers.scoring import Desk

        if self._scratch is None:
            raise RuntimeError("the parent did not prepare")
        started = time.monotonic()
        self._scratch.enter_child()
        engine = self._load(current_process().index)
        self._desk = Desk(
            worker=self._worker,
            engine=engine,
            ledger=Ledger.connect(self._settings.redis, self._settings.jobs),
            store=ObjectStore(self._settings.s3, seen=self._tally.tell_request),
            scratch=self._scratch,
            settings=self._settings,
            categories=self._categories,
            drain=self._drain,
            tally=self._tally,
            tracing=self._tracing,
            sign=self._pulse.of_child(current_process().index),
        )
        self._rehearse(self._desk)
        self._tracing.begin()
        return _describe(engine, time.monotonic() - started)

    def _load(self, index: int) -> Engine:
        """The model, mapped into this process; or its host, once that is warm."""
        path = self._hosts.path(index)
        if path is not None:
            from warmline.emotion.hosted_engine import HostedEngine

            self._hosts.enter_child()
            self._host = HostedEngine(path, on_link=self._on_link)
            return self._host
        from warmline.emotion.engine import any_window_warms, warm
        from warmline.emotion.loading import load_engine

        engine = load_engine(self._settings.emotion, threads=self._threads, child_index=index)
        if not any_window_warms(engine.info):  # else the rehearsal's does
            warm(engine)
        return engine

    def _rehearse(self, desk: Desk) -> None:
        while True:
            try:
                return _rehearse(desk)
            except EngineLost:
                # The parent decides whether there will be another host.
                log.warning("rehearsal_repeated", reason="the engine's host died")
                if self._host is not None:
                    self._host.wait_joined()

    def _on_link(self, link: Link) -> None:
        """From the hosted engine's thread."""
        from warmline.emotion.hosted_engine import Link

        if link is Link.REPLACED:
            os._exit(1)  # a new child reports the new model; a call that runs here must not be of two models
        if self._state is None:
            return  # not warm yet, and nobody was told so
        if link is Link.LOST:
            self._announcements.tell_host_lost()
        else:
            self._announcements.tell_warm(self._state.model_copy(update={"warm_since": datetime.now(UTC)}))

    def _give_up(self, reason: str) -> NoReturn:
        self._announcements.tell_failed(reason)
        os._exit(1)


def _rehearse(desk: Desk) -> None:
    """Walks the road of a job once, so that the first one finds imports done, models loaded, connections open.

    Raises what the analysis raises: an installation that cannot analyse noise cannot analyse calls.
    """
    from warmline.calls.analyze import analyze_call
    from warmline.calls.report import SourceFacts

    # Whatever calls this installation accepts.
    audio = desk.settings.audio.model_copy(update={"max_seconds": 60, "max_channels": 2})
    analyst = dataclasses.replace(desk.analyst, audio=audio)
    for granularity, seconds, channels in REHEARSALS:
        with desk.scratch.file() as path:
            _write_noise(path, seconds, channels)
            facts = SourceFacts(uri="rehearsal", size_bytes=path.stat().st_size)
            options = Options.model_validate({"granularity": granularity})
            analyze_call(path, analyst, source=facts, options=options)
    _connect(desk)


def _connect(desk: Desk) -> None:
    """Opens connections, and has boto3 build at leisure what it builds at a request's first use."""
    nothing = "warmline/rehearsal"
    requests: list[Callable[[], object]] = [
        desk.ledger.ping,
        desk.store.ping,
        *(partial(desk.store.head, Source(bucket=b, key=nothing)) for b in desk.settings.s3.source_buckets[:1]),
        partial(desk.store.get_report, ReportLocation(bucket=desk.settings.s3.results_bucket, key=nothing)),
    ]
    for request in requests:
        try:
            request()
        except ObjectNotFound:
            continue
        except WarmlineError as error:  # may be mended before the first job, which will tell
            log.warning("not_reachable_yet", error=error.message)
            return


def _write_noise(path: Path, seconds: float, channels: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, 8000, 0, "NONE", "NONE"))
        noise = random.Random(0).randbytes(2 * channels * round(8000 * seconds))  # noqa: S311  # noise is noise
        file.writeframes(noise)


def _describe(engine: Engine, load_seconds: float) -> ChildState:
    info = engine.info
    child = ChildState(
        pid=os.getpid(),
        model=info.model,
        model_hash=info.model_hash,
        mini=info.mini,
        engine=info.engine,
        device=info.device,
        precision=info.precision,
        threads=info.threads,
        load_seconds=round(load_seconds, 3),
        warm_since=datetime.now(UTC),
    )
    note = {"note": MINI_NOTE} if info.mini else {}
    log.info("child_warm", **child.model_dump(exclude={"warm_since"}), **note)
    return child
