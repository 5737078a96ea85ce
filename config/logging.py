"""One structured log shape for every process: what happened (`action`), to which job or batch, in which worker.

Our own lines come from `structlog.get_logger()` and look like `log.info("job_finished", job_id=..., seconds=...)`:
the event's name becomes `action`. Lines of other libraries, Python's warnings, and errors that nobody caught pass
through the same renderer. No line shows a secret, and none the key of a call under WARMLINE_LOG_MASK_KEYS.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from config.redaction import Redactor, mask_call_names
from config.settings import LogSettings, Settings

# They write whole addresses, and with them the tokens in their queries.
_WRITE_ADDRESSES = ("httpx", "httpcore")
# At DEBUG they write each request with the key that it is about, in forms that are not told from other text.
_WRITE_KEYS = ("boto3", "botocore", "s3transfer", "urllib3", "celery", "kombu", "amqp")


def configure_logging(settings: Settings | LogSettings, *, process: str) -> None:
    """Sends every log line to stderr in the configured shape. `process` names the part: api, worker, cli.

    With the LogSettings alone, for a command that has no secrets, only such are hidden as what stands before them
    tells.
    """
    redactor = Redactor.of(settings) if isinstance(settings, Settings) else Redactor()
    chosen = settings.log if isinstance(settings, Settings) else settings
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _name_the_action(process),
        *([_mask_keys] if chosen.mask_keys else []),
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if chosen.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), event_key="action")
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _RedactingFormatter(
            redactor,
            foreign_pre_chain=[
                structlog.stdlib.ExtraAdder(allow=()),
                structlog.stdlib.add_logger_name,
                *shared,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(chosen.level)
    for name in _WRITE_ADDRESSES:
        logging.getLogger(name).setLevel(logging.WARNING)
    if chosen.mask_keys:
        for name in _WRITE_KEYS:
            logging.getLogger(name).setLevel(max(logging.INFO, logging.getLevelName(chosen.level)))
    _log_what_nobody_caught()


class _RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """The last station of every line."""

    def __init__(
        self, redactor: Redactor, *, foreign_pre_chain: list[Processor], processors: list[Processor]
    ) -> None:
        super().__init__(foreign_pre_chain=foreign_pre_chain, processors=processors)
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.text(super().format(record))


def _log_what_nobody_caught() -> None:
    """What Python itself would print to stderr: in our shape, and without secrets."""
    log = structlog.get_logger()

    def at_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, Exception):
            log.critical("process_crashed", exc_info=(kind, error, trace))
        else:  # an interruption
            sys.__excepthook__(kind, error, trace)

    def in_a_thread(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_value is not None and issubclass(failed.exc_type, Exception):
            name = failed.thread.name if failed.thread is not None else None
            exc_info = (failed.exc_type, failed.exc_value, failed.exc_traceback)
            log.critical("thread_crashed", thread=name, exc_info=exc_info)

    sys.excepthook, threading.excepthook = at_the_end, in_a_thread
    logging.captureWarnings(capture=True)


def _name_the_action(process: str) -> Processor:
    def rename(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        if "event" in event:
            event["action"] = event.pop("event")
        event.setdefault("process", process)
        return event

    return rename


def _mask_keys(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return mask_call_names(dict(event))
