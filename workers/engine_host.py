"""A process that holds the model for a worker's children; started and watched by the worker's parent.

It is no fork: the parent must never touch a GPU, and threads do not survive a fork. It ends when its standard
input does, whose other end the parent and its children hold: after the last of them, however they died.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time

import structlog

from config.logging import configure_logging
from config.settings import Settings, load_settings
from warmline.jobs.errors import WarmlineError
from workers.announcements import Announcements
from workers.engine_server import EngineBroken, EngineServer

log = structlog.get_logger()

_HOST = "engine host"


def main() -> int:
    """Serves until the worker has ended; returns 1 where there is nothing to serve."""
    parser = argparse.ArgumentParser(prog="engine-host")
    for name in ("index", "threads", "listener", "announcements"):
        parser.add_argument(f"--{name}", type=int, required=True)
    arguments = parser.parse_args()
    # A Ctrl-C or a SIGTERM for the whole group is for the parent: children have jobs to finish here.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    settings = load_settings(with_stack=False)
    configure_logging(settings, process="engine-host")
    structlog.contextvars.bind_contextvars(host=arguments.index)
    announcements = Announcements.writing_to(arguments.announcements)
    ends = _Ends()
    try:
        server = _load(settings, arguments)
    except WarmlineError as error:
        announcements.tell_failed(error.message, who=_HOST)
        return 1
    except Exception as error:
        log.critical("engine_host_crashed", exc_info=True)
        announcements.tell_failed(f"{type(error).__name__}: {error}", who=_HOST)
        return 1
    ends.server = server
    announcements.tell_host_warm()
    threading.Thread(
        target=_say_again,
        args=(server, announcements, settings.worker.heartbeat_seconds),
        name="says-again",
        daemon=True,
    ).start()
    try:
        server.run()
    except EngineBroken as error:
        log.critical("engine_broken", error=str(error))
    server.log_counts()
    os._exit(1)  # with threads that wait on sockets


def _say_again(server: EngineServer, announcements: Announcements, every_seconds: float) -> None:
    """That this process serves, for as long as it does: the parent ends one that has fallen silent."""
    while not server.stuck:
        time.sleep(every_seconds)
        announcements.tell_host_warm()
    log.critical("engine_stuck")


class _Ends:
    """Ends this process when nobody is left who could want something of it."""

    def __init__(self) -> None:
        self.server: EngineServer | None = None
        threading.Thread(target=self._wait, name="ends", daemon=True).start()

    def _wait(self) -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass  # nothing is ever written
        if self.server is not None:
            self.server.log_counts()
        os._exit(0)


def _load(settings: Settings, arguments: argparse.Namespace) -> EngineServer:
    from warmline.emotion.engine import warm
    from warmline.emotion.loading import load_engine

    engine = load_engine(settings.emotion, threads=arguments.threads, child_index=arguments.index)
    warm(engine)
    return EngineServer(engine, socket.socket(fileno=arguments.listener))


if __name__ == "__main__":
    sys.exit(main())
