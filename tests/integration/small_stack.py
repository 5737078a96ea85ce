"""A stack of small real parts, run by the code that runs the whole one: python small_stack.py DATA SCENARIO.

Prints a line for each event, `READY` when every part serves, and the error that ended it. Exits 0, or 1 for that.
"""

from __future__ import annotations

import functools
import shlex
import sys
from pathlib import Path

from config.settings import Settings, StackSettings
from warmline.local.directory import StackDirectory
from warmline.local.events import Event, LogLine, OnEvent
from warmline.local.parts import Part, StackError
from warmline.local.plan import Plan
from warmline.local.ports import choose_port
from warmline.local.probes import page_waits_for
from warmline.local.stack import running_stack

SERVER = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1")
IDLE = ("/bin/sleep", "1000")
# Says so, then ends: a part that no restart can help.
DYING = (sys.executable, "-c", "import sys; print('the well is dry'); sys.exit(3)")
# Takes no SIGTERM, and has a child that takes none either.
STUBBORN = (
    "/bin/sh",
    "-c",
    "trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 1; done' & while :; do sleep 1; done",
)


def server(name: str) -> Part:
    """A real web server."""
    port = choose_port()
    url = f"http://127.0.0.1:{port}/"
    return Part(
        name=name,
        command=(*SERVER, str(port)),
        directory=Path.cwd(),
        address=url,
        waiting_for=lambda _: page_waits_for(url),
    )


def process(name: str, command: tuple[str, ...], *, stop_seconds: int = 15, serves: bool = True) -> Part:
    """A part that is taken to serve as soon as it runs, or never."""
    return Part(
        name=name,
        command=command,
        directory=Path.cwd(),
        address="nowhere",
        waiting_for=lambda _: None if serves else "nothing",
        stop_seconds=stop_seconds,
    )


def parts_of(scenario: str) -> list[Part]:
    """The parts of a scenario, in order."""
    if scenario == "two servers":
        return [server("valkey"), server("api")]
    others = {
        "dies again and again": [process("api", ("/bin/sh", "-c", f"sleep 0.4; exec {shlex.join(DYING)}"))],
        "dies at start": [process("api", DYING, serves=False), server("flower")],
        "never serves": [process("api", IDLE, serves=False)],
        "never serves and is given up": [process("api", IDLE, serves=False)],
        "parent and child": [process("worker", ("/bin/sh", "-c", "sleep 1000 & wait"))],
        "stubborn": [process("worker", STUBBORN, stop_seconds=1)],
        "stubborn for long": [process("worker", STUBBORN, stop_seconds=1000)],
    }
    return [process("valkey", IDLE), *others[scenario]]


def plan_small(scenario: str, settings: Settings, _: StackDirectory, __: OnEvent) -> Plan:
    """The planner."""
    return Plan(settings=settings, parts=parts_of(scenario))


def show(event: Event) -> None:
    """A line an event; a part's own lines are labelled.

    Events come from several threads, and `print` writes a line in pieces: so each line is one write.
    """
    if isinstance(event, LogLine):
        line = f"{event.part} | {event.line}"
    else:
        line = f"{type(event).__name__} {event.__dict__.get('part', '')}"
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(data: str, scenario: str) -> int:
    """Runs the scenario until a signal, or until the stack gives up."""
    patience = 2.0 if scenario == "never serves and is given up" else 60.0
    limits = StackSettings(data_dir=Path(data), max_deaths=3, start_timeout_seconds=patience)
    settings = Settings(stack=limits)
    try:
        with running_stack(settings, on_event=show, plan=functools.partial(plan_small, scenario)) as stack:
            print("READY", flush=True)
            stack.wait()
    except KeyboardInterrupt:
        print("INTERRUPTED", flush=True)
    except StackError as error:
        print(f"FAILED {error.message}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
