"""Watches the parts of a stack: starts again what dies, later each time, and gives up on what keeps dying."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

import structlog

from warmline.local.directory import StackDirectory
from warmline.local.events import LogLine, OnEvent, PartDied, PartReady, PartStarting
from warmline.local.interruptions import Interruptions
from warmline.local.log_lines import LogFollower, last_lines
from warmline.local.parts import Part, StackError
from warmline.local.processes import kill_part
from warmline.local.supervisor import PartProcess, Supervisor, SupervisorGone

log = structlog.get_logger()

DEATHS_WINDOW_SECONDS = 600.0
_POLL_SECONDS = 0.1
_FIRST_RESTART_SECONDS, _LONGEST_RESTART_SECONDS = 0.5, 30.0


def restart_delay_seconds(deaths: int) -> float:
    """How long to wait before the start that follows so many deaths within the window."""
    return float(min(_LONGEST_RESTART_SECONDS, _FIRST_RESTART_SECONDS * 2 ** (deaths - 1)))


class Watch:
    """What is known of one part: when it died, and whether it serves."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.deaths: deque[float] = deque()  # monotonic seconds, those within the window
        self.deaths_total = 0
        self.ready = False
        self.started = 0.0  # monotonic seconds
        self.restart_at: float | None = None  # monotonic seconds; None: it runs
        self.waiting_for: str | None = None

    def begin(self) -> None:
        """It has been started."""
        self.started = time.monotonic()
        self.ready = False
        self.restart_at = None
        self.waiting_for = None

    def died(self) -> int:
        """It has died; returns how often within the window."""
        now = time.monotonic()
        self.deaths.append(now)
        self.deaths_total += 1
        while self.deaths[0] < now - DEATHS_WINDOW_SECONDS:
            self.deaths.popleft()
        self.restart_at = now + restart_delay_seconds(len(self.deaths))
        self.ready = False
        return len(self.deaths)


class Monitor:
    """Starts the parts, then keeps them alive from a thread of its own until it is stopped or gives up."""

    def __init__(
        self,
        directory: StackDirectory,
        supervisor: Supervisor,
        parts: Sequence[Part],
        on_event: OnEvent,
        *,
        max_deaths: int,
        start_timeout_seconds: float,
    ) -> None:
        self._directory = directory
        self._supervisor = supervisor
        self._on_event = on_event
        self._max_deaths = max_deaths
        self._start_timeout = start_timeout_seconds
        self.watches = {part.name: Watch(part) for part in parts}
        self._logs = {part.name: LogFollower(directory.log_of(part.name)) for part in parts}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stack-monitor", daemon=True)
        self.failure: StackError | None = None
        self.failed = threading.Event()

    def start_part(self, name: str, interruptions: Interruptions) -> None:
        """Starts a part and returns when it serves.

        Raises StackError when it dies before that, which another try would not mend, or takes too long;
        KeyboardInterrupt when a signal has come.
        """
        watch = self.watches[name]
        self._start(watch)
        while not watch.ready:
            interruptions.check()
            process = self._supervisor.processes()[name]
            self.pass_on_logs()
            if process.state != "running":
                raise self._given_up(watch, f"{name} ended while it started: {self._supervisor.last_exit(name)}")
            if self._overdue(watch):
                raise self._given_up(watch, self._overdue_words(watch))
            self._look(watch, process)
            if not watch.ready:
                time.sleep(_POLL_SECONDS)

    def watch_in_background(self) -> None:
        """From now on a part that dies is started again."""
        self._thread.start()

    def stop(self) -> None:
        """Stops watching: from now on the parts may end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        """Closes the parts' logs."""
        for follower in self._logs.values():
            follower.close()

    def pass_on_logs(self) -> None:
        """Hands on what the parts have printed since the last time."""
        for name, follower in self._logs.items():
            for line in follower.new_lines():
                self._on_event(LogLine(name, line))

    def _run(self) -> None:
        try:
            while not self._stop.wait(_POLL_SECONDS):
                self.pass_on_logs()
                processes = self._supervisor.processes()
                for name, watch in self.watches.items():
                    self._keep_alive(watch, processes[name])
        except SupervisorGone:
            how = "the process supervisor has ended; its log says why"
            self._fail(StackError(f"{how}: {self._directory.supervisor_log}"))
        except StackError as error:
            self._fail(error)
        except Exception as error:  # a thread's traceback alone would leave a stack that nobody watches
            log.exception("stack_monitor_failed")
            self._fail(StackError(f"the stack's monitor failed: {error!r}"))
            raise

    def _fail(self, error: StackError) -> None:
        self.failure = error
        self.failed.set()

    def _keep_alive(self, watch: Watch, process: PartProcess) -> None:
        if watch.restart_at is not None:
            if time.monotonic() >= watch.restart_at:
                self._start(watch)
        elif process.state in {"died", "stopped"}:
            self._mourn(watch, self._supervisor.last_exit(process.name))
        elif not watch.ready and self._overdue(watch):
            self._supervisor.stop_part(process.name)  # then it is dead, and counts as such
        elif process.state == "running" and not watch.ready:
            self._look(watch, process)

    def _mourn(self, watch: Watch, how: str) -> None:
        name = watch.part.name
        kill_part(self._directory, name)
        deaths = watch.died()
        log.warning("part_died", part=name, how=how, deaths=deaths)
        if deaths >= self._max_deaths:
            minutes = DEATHS_WINDOW_SECONDS / 60
            raise self._given_up(watch, f"{name} died {deaths} times in {minutes:g} minutes, at last: {how}")
        self._on_event(PartDied(name, how, deaths, restart_delay_seconds(deaths)))

    def _start(self, watch: Watch) -> None:
        self._supervisor.start_part(watch.part.name)
        watch.begin()

    def _look(self, watch: Watch, process: PartProcess) -> None:
        waiting_for = watch.part.waiting_for(process.pid)
        if waiting_for is None:
            watch.ready = True
            seconds = time.monotonic() - watch.started
            self._on_event(PartReady(watch.part.name, watch.part.address, seconds))
        elif waiting_for != watch.waiting_for:
            self._on_event(PartStarting(watch.part.name, waiting_for))
        watch.waiting_for = waiting_for

    def _overdue(self, watch: Watch) -> bool:
        return time.monotonic() - watch.started > self._start_timeout

    def _overdue_words(self, watch: Watch) -> str:
        waits = f": it waits for {watch.waiting_for}" if watch.waiting_for else ""
        return f"{watch.part.name} did not serve within {self._start_timeout:g} s{waits}"

    def _given_up(self, watch: Watch, why: str) -> StackError:
        self.pass_on_logs()
        file = self._directory.log_of(watch.part.name)
        said = "\n".join(f"  {line}" for line in last_lines(file))
        return StackError(f"{why}\nThe last lines of {file}:\n{said}")
