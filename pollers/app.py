"""`warmline-sqs`: makes jobs of the uploads that an SQS queue announces.

Any number of them may take from one queue.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import structlog

from config.logging import configure_logging
from config.settings import Settings, SettingsError, load_settings
from pollers.alive import beat
from pollers.sqs import Poller
from pollers.trouble import Trouble
from warmline.jobs.connection import refuse_newer_ledger
from warmline.jobs.errors import (
    LedgerTooNew,
    LedgerUnavailable,
    QueueMisconfigured,
    QueueUnavailable,
    TransientError,
)
from warmline.jobs.layout import TOO_NEW_EXIT
from warmline.jobs.upload_ledger import UploadLedger
from warmline.objects.sqs import EventQueue, QueueFacts
from warmline.objects.store import ObjectStore
from warmline.telemetry.tracing import Tracing
from warmline.triggers.intake import Intake
from warmline.triggers.rules import Rules

log = structlog.get_logger()

BAD_SETTINGS: Final = 2  # exit code
BEAT_SECONDS: Final = 2.0
AGAIN_SECONDS: Final = 2.0  # between tries of what is not there at the start
FEW_RECEIVES: Final = 3  # a poller that is killed costs one

_T = TypeVar("_T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Polls until SIGTERM or SIGINT. Returns the exit code.

    0, 2 for bad settings, 3 for a ledger that a newer Warmline wrote.
    """
    asked = _parse(arguments)
    try:
        settings = load_settings()
        configure_logging(settings, process="sqs")
        refuse_newer_ledger(settings.redis)
        return _serve(settings, asked.alive_file)
    except (SettingsError, QueueMisconfigured) as error:
        print(f"warmline-sqs: {error}", file=sys.stderr)
        return BAD_SETTINGS
    except LedgerTooNew as error:
        print(f"warmline-sqs: {error.message}", file=sys.stderr)
        return TOO_NEW_EXIT


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="warmline-sqs",
        description="Makes jobs of the uploads that an SQS queue announces. Settings: WARMLINE_SQS_QUEUE_URL and "
        "others, see config/example.env.",
    )
    parser.add_argument(
        "--alive-file", type=Path, metavar="FILE", help="written while it gets on; see pollers.alive"
    )
    return parser.parse_args(arguments)


def _serve(settings: Settings, alive_file: Path | None) -> int:
    """Returns the exit code. Raises SettingsError, and QueueMisconfigured where only SQS could say so."""
    if not settings.sqs.queue_url:
        raise SettingsError("WARMLINE_SQS_QUEUE_URL is not set: which queue are events to be taken from?")
    rules = Rules.load(settings)
    stopping = _stop_at_signals()
    queue = EventQueue(settings.sqs, default_region=settings.s3.region)
    ledger = UploadLedger.connect(settings.redis, settings.jobs)
    intake = Intake(settings, rules, ledger, ObjectStore(settings.s3))
    trouble = Trouble()
    facts = _when_there(queue.describe, trouble, stopping)
    _when_there(ledger.ping, trouble, stopping)
    if facts is None or stopping.is_set():
        return 0
    trouble.ends(QueueUnavailable, LedgerUnavailable)
    _say_ready(settings, queue, facts, rules)
    tracing = Tracing(settings, process="sqs")
    poller = Poller(settings.sqs, queue, facts, intake, tracing=tracing)
    poller.start()
    while not stopping.is_set():
        if alive_file is not None and poller.healthy:
            _beat(alive_file)
        stopping.wait(BEAT_SECONDS)
    log.info("sqs_stops")
    ended = poller.stop()
    tracing.stop()
    if alive_file is not None:
        alive_file.unlink(missing_ok=True)
    log.info("sqs_stopped", threads_left=not ended)
    if not ended:
        # A request to the store that hangs is not waited for: what it was for has been given back.
        sys.stderr.flush()
        os._exit(0)
    intake.close()
    queue.close()
    return 0


def _stop_at_signals() -> threading.Event:
    """Set by the first SIGTERM or SIGINT. The second one ends the process as if it had none of this."""
    stopping = threading.Event()

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopping


def _when_there(ask: Callable[[], _T], trouble: Trouble, stopping: threading.Event) -> _T | None:
    """The answer, as soon as there is one; None when the process is to end before."""
    while not stopping.is_set():
        try:
            return ask()
        except TransientError as error:
            trouble.begins(error)
            stopping.wait(AGAIN_SECONDS)
    return None


def _say_ready(settings: Settings, queue: EventQueue, facts: QueueFacts, rules: Rules) -> None:
    log.info(
        "sqs_ready",
        queue=queue.name,
        waiting=facts.waiting,
        hidden=facts.hidden,
        dead_letter_queue=facts.dead_letter_queue,
        max_receives=facts.max_receives,
        rules=[rule.name for rule in rules.rules],
        receivers=settings.sqs.receivers,
    )
    if facts.dead_letter_queue is None:
        log.warning(
            "sqs_without_dead_letter_queue",
            advice="give the queue a RedrivePolicy: what cannot be used comes again until SQS forgets it",
        )
    elif facts.max_receives is not None and facts.max_receives < FEW_RECEIVES:
        log.warning(
            "sqs_gives_up_early",
            max_receives=facts.max_receives,
            advice="a poller that is killed costs its messages a receive; set maxReceiveCount to 10",
        )


def _beat(file: Path) -> None:
    try:
        beat(file)
    except OSError as error:
        log.warning("alive_file_not_written", file=str(file), error=error.strerror)


if __name__ == "__main__":
    sys.exit(main())
