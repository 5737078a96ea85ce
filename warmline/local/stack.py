"""The one-machine stack: starts real servers as supervised child processes, and leaves none behind.

    with running_stack(load_settings(with_stack=False)) as stack:
        ...  # every part serves; stack.settings has their addresses

Read this module first. The parts start in order, each after the one before it answers: Valkey, SeaweedFS, the API,
what makes jobs of uploads, the worker, Flower.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import structlog

from config.settings import Settings, process_environment
from warmline.calls.categories.rules import CategoryRules
from warmline.local import events
from warmline.local.directory import StackDirectory
from warmline.local.events import Event, LeftoversFound, OnEvent, PartStopping
from warmline.local.interruptions import Interruptions
from warmline.local.lock import lock_holder, stack_lock
from warmline.local.monitor import Monitor
from warmline.local.parts import Part, StackError
from warmline.local.plan import Plan, plan_stack, write_clients_file
from warmline.local.processes import MARKER, end_leftovers, find_processes
from warmline.local.state import StateFile
from warmline.local.supervisor import Supervisor, SupervisorGone
from warmline.triggers.rules import Rules

log = structlog.get_logger()

LEFTOVER_GRACE_SECONDS = 20.0
_POLL_SECONDS = 0.1
STOP_SECONDS = 660.0  # a worker may have been given minutes to finish its jobs

Planner = Callable[[Settings, StackDirectory, OnEvent], Plan]


class Stack:
    """A stack whose every part serves."""

    def __init__(
        self, settings: Settings, directory: StackDirectory, parts: Sequence[Part], monitor: Monitor
    ) -> None:
        self.settings = settings  # with the addresses and passwords of the parts filled in
        self.directory = directory
        self.parts = parts
        self._monitor = monitor

    @property
    def failure(self) -> StackError | None:
        """Why the stack has given up, if it has."""
        return self._monitor.failure

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Returns when the stack has given up on a part, or the time is over."""
        self._monitor.failed.wait(timeout_seconds)


@contextmanager
def running_stack(
    settings: Settings, *, on_event: OnEvent = events.ignore, plan: Planner = plan_stack
) -> Iterator[Stack]:
    """Runs the stack while the block lasts; every part serves when the block begins, and none is left after it.

    A part that dies is started again, later each time; one that dies `settings.stack.max_deaths` times within ten
    minutes fails the stack: `stack.failure` says why, and the block's end raises it. SIGINT, SIGTERM and SIGHUP
    are KeyboardInterrupt within the block. `on_event` may be called from another thread. `plan` says which parts
    there are.

    Raises StackError: the stack does not start, a server is not installed, or a part was given up.
    Raises StackRunning when another process runs a stack on this data directory, and SettingsError for rules of
    uploads and categories that cannot be used, before anything is started.
    """
    Rules.load(settings)
    CategoryRules.load(settings)
    directory = StackDirectory(settings.stack.data_dir)
    directory.make()
    with Interruptions() as interruptions, stack_lock(directory.lock_file):
        if found := find_processes(directory):
            on_event(LeftoversFound(sorted({each.part for each in found})))
            end_leftovers(directory, LEFTOVER_GRACE_SECONDS)
        directory.remove_run_files()
        planned = plan(settings, directory, on_event)
        write_clients_file(planned.settings, directory.clients_file)
        yield from _run(planned, directory, interruptions, on_event)


def _run(
    plan: Plan, directory: StackDirectory, interruptions: Interruptions, on_event: OnEvent
) -> Iterator[Stack]:
    parts = plan.parts
    state = StateFile(directory.state_file, parts)

    def note_and_pass_on(event: Event) -> None:
        state.note(event)
        on_event(event)

    supervisor = Supervisor(directory)
    limits = plan.settings.stack
    monitor = Monitor(
        directory,
        supervisor,
        parts,
        note_and_pass_on,
        max_deaths=limits.max_deaths,
        start_timeout_seconds=limits.start_timeout_seconds,
    )
    stack = Stack(plan.settings, directory, parts, monitor)
    try:
        state.enter("starting")
        # PASSIVE: torch's threads that wait for each other by spinning take the cores from the servers beside
        # them, and made jobs of the mini model several times slower on two busy cores.
        extra = {MARKER: str(directory.path), "OMP_WAIT_POLICY": "PASSIVE"}
        supervisor.start(parts, process_environment(plan.settings, **extra))
        for part in parts:
            part.remove_traces()
            monitor.start_part(part.name, interruptions)
        state.enter("ready")
        monitor.watch_in_background()
        try:
            interruptions.raise_from_now_on()
            yield stack
        finally:
            interruptions.only_note_from_now_on()
    except Exception as error:
        if stack.failure is not None:  # whatever the block ran into, this is why
            raise stack.failure from error
        raise
    finally:
        monitor.stop()
        state.enter("stopping")
        _stop(supervisor, monitor, directory, interruptions, on_event)
        for part in parts:
            part.remove_traces()
        directory.remove_run_files()
    if stack.failure is not None:
        raise stack.failure


def stop_stack(directory: StackDirectory, timeout_seconds: float = STOP_SECONDS) -> Sequence[str]:
    """Stops whatever runs on this directory, from another process; returns the parts it found, none for nothing.

    The process that runs the stack is asked, and waited for. Where it is gone, what it left is ended.
    Raises StackError when that takes longer than the time given.
    """
    parts = sorted({each.part for each in find_processes(directory)})
    deadline = time.monotonic() + timeout_seconds
    if (holder := lock_holder(directory.lock_file)) is not None:
        with suppress(ProcessLookupError):  # it was just about to end
            os.kill(holder, signal.SIGTERM)
        while lock_holder(directory.lock_file) == holder:
            if time.monotonic() > deadline:
                raise StackError(f"The stack (process {holder}) did not end within {timeout_seconds:g} s.")
            time.sleep(_POLL_SECONDS)
    elif parts:
        end_leftovers(directory, timeout_seconds)
        directory.remove_run_files()
    return parts


def _stop(
    supervisor: Supervisor,
    monitor: Monitor,
    directory: StackDirectory,
    interruptions: Interruptions,
    on_event: OnEvent,
) -> None:
    """Ends the parts, the last one first. A signal meanwhile ends them at once."""
    signals = interruptions.count
    try:
        for watch in reversed(monitor.watches.values()):
            if supervisor.processes()[watch.part.name].pid:
                on_event(PartStopping(watch.part.name, watch.part.stop_seconds))
                supervisor.stop_part(watch.part.name)
            while supervisor.processes()[watch.part.name].pid:
                if interruptions.count > signals:
                    supervisor.kill_part(watch.part.name)
                monitor.pass_on_logs()
                time.sleep(_POLL_SECONDS)
    except SupervisorGone:
        log.warning("supervisor_gone", data=str(directory.path))  # the leftovers are found without it
    supervisor.shutdown(LEFTOVER_GRACE_SECONDS)
    end_leftovers(directory, 0.0 if interruptions.count > signals else LEFTOVER_GRACE_SECONDS)
    monitor.pass_on_logs()
    monitor.close()
