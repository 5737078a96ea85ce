"""One structured log shape for every process: what happened (`action`), to which job or batch, in which worker.

Our own lines come from `structlog.get_logger()` and look like `log.info("job_finished", job_id=..., seconds=...)`:
the event's name becomes `action`. Lines of other libraries pass through the same renderer.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from config.settings import LogSettings


def configure_logging(settings: LogSettings, *, process: str) -> None:
    """Sends every log line to stderr in the configured shape. `process` names the part: api, worker, cli."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _name_the_action(process),
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), event_key="action")
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow=()), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    for client in ("httpx", "httpcore"):  # they write whole URLs, and with them the tokens in their queries
        logging.getLogger(client).setLevel(logging.WARNING)


def _name_the_action(process: str) -> Processor:
    def rename(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        if "event" in event:
            event["action"] = event.pop("event")
        event.setdefault("process", process)
        return event

    return rename
