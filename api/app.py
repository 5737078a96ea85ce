"""The HTTP edge: wiring only. `python -m api.app` serves it as the settings say."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Final

import uvicorn
from fastapi import FastAPI

from api import openapi, problems
from api.auth import RequireKey, refuse_open_bind
from api.background import Background
from api.dependencies import Services
from api.edge import LimitBody, RequestLog
from api.routers import (
    aggregates,
    batches,
    dashboard,
    dead_letters,
    events,
    health,
    jobs,
    metrics,
    overview,
    pictures,
    reconciliations,
    schemas,
    uploads,
    webhooks,
    workers,
)
from api.schemas import BatchRequest, JobRequest
from api.traces import TraceRequests
from api.upload_schemas import UploadRequest
from config.logging import configure_logging
from config.settings import Settings, SettingsError, load_settings
from warmline.jobs.connection import refuse_newer_ledger
from warmline.jobs.errors import LedgerTooNew
from warmline.jobs.layout import TOO_NEW_EXIT
from warmline.jobs.reconciliation import Wanted

DESCRIPTION = """\
Turns call recordings in S3 into emotion timelines, with a model that is always warm.

Submit a call with `POST /v1/jobs` or many with `POST /v1/batches`, ask for the job until its status is
`succeeded`, `failed`, `cancelled` or `dead`, then fetch its report. Every error is a problem document (RFC 9457)
with a stable `code`.
"""

ROUTERS: Final = (  # in the order in which the OpenAPI document names them
    health, jobs, batches, aggregates, pictures, dead_letters, reconciliations, events, uploads, schemas, webhooks,
    metrics, workers, overview, dashboard,
)  # fmt: skip


def create_app(settings: Settings) -> FastAPI:
    """The application. Connects to nothing yet. Raises SettingsError when it would be open to other machines."""
    refuse_open_bind(settings.api)
    services = Services.connect(settings)
    background = Background(settings, services)
    app = FastAPI(
        title="Warmline",
        version=importlib.metadata.version("warmline"),
        # Their pages load scripts from elsewhere, which a machine without a network cannot; /openapi.json stays.
        docs_url=None,
        redoc_url=None,
        lifespan=background.run,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.observer = background.observer
    problems.install(app)
    openapi.install(app, description=DESCRIPTION, bodies=(JobRequest, BatchRequest, Wanted, UploadRequest))
    for module in ROUTERS:
        app.include_router(module.router)
    # The last one added is the first to see a request.
    app.add_middleware(
        LimitBody, max_bytes=settings.api.max_body_bytes, max_event_bytes=settings.triggers.max_body_bytes
    )
    app.add_middleware(RequireKey, settings=settings)
    app.add_middleware(RequestLog, answered=services.metrics.answered)
    if background.tracing.on:
        app.add_middleware(TraceRequests, tracing=background.tracing)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves the API until SIGTERM or SIGINT. Exit code 2: the settings are not usable; 3: the ledger is newer."""
    argparse.ArgumentParser(
        prog="warmline-api",
        description="Serves the HTTP API and the dashboard. Settings: WARMLINE_API_HOST, WARMLINE_API_PORT, "
        "WARMLINE_API_KEYS and others, see config/example.env.",
    ).parse_args(arguments)
    try:
        settings = load_settings()
        configure_logging(settings, process="api")
        refuse_newer_ledger(settings.redis)
        app = create_app(settings)
    except SettingsError as error:
        print(f"warmline-api: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except LedgerTooNew as error:
        print(f"warmline-api: {error.message}", file=sys.stderr)
        raise SystemExit(TOO_NEW_EXIT) from None
    uvicorn.run(
        app,
        host=settings.api.host,
        port=settings.api.port,
        log_config=None,  # its loggers hand on to ours
        access_log=False,  # api.edge writes that line
        server_header=False,
        timeout_graceful_shutdown=10,
        # Said here, because uvicorn would look for them in the environment.
        workers=1,
        forwarded_allow_ips="127.0.0.1",
    )


if __name__ == "__main__":
    main()
