"""The HTTP edge: wiring only. `python -m api.app` serves it as the settings say."""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvicorn
from fastapi import FastAPI

from api import openapi, problems
from api.auth import RequireKey, refuse_open_bind
from api.dependencies import Services
from api.edge import LimitBody, RequestLog
from api.observer import Observer
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
from warmline.jobs.feeder import Feeder
from warmline.jobs.layout import TOO_NEW_EXIT
from warmline.jobs.reconciliation import Wanted
from warmline.objects.reconcile_schedule import ReconcileSchedule
from warmline.telemetry.tracing import Tracing
from warmline.webhooks.deliverer import Deliverer

DESCRIPTION = """\
Turns call recordings in S3 into emotion timelines, with a model that is always warm.

Submit a call with `POST /v1/jobs` or many with `POST /v1/batches`, ask for the job until its status is
`succeeded`, `failed`, `cancelled` or `dead`, then fetch its report. Every error is a problem document (RFC 9457)
with a stable `code`.
"""

STOP_SECONDS: Final = 3.0  # a Redis that hangs does not keep the process from ending


def create_app(settings: Settings) -> FastAPI:
    """The application. Connects to nothing yet. Raises SettingsError when it would be open to other machines."""
    refuse_open_bind(settings.api)
    services, feeder = Services.connect(settings), Feeder(settings, preferred=True)
    schedule = ReconcileSchedule(settings, services.reconciler)
    tracing = Tracing(settings, process="api")
    deliverer = Deliverer(settings, preferred=True, seen=services.metrics.posts.seen)
    observer = Observer.of(services)

    def end() -> None:
        observer.stop()
        schedule.stop()
        deliverer.stop()
        feeder.stop()
        services.close()
        tracing.stop()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Beside the start and not before it: without Redis the API must still come up and say so.
        threading.Thread(target=services.open, daemon=True).start()
        tracing.begin()
        feeder.start()
        schedule.start()
        deliverer.start()
        observer.start()
        # What was imported stays: a garbage collection that looked through it all would hold up every request.
        gc.freeze()
        yield
        ending = threading.Thread(target=end, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, STOP_SECONDS)

    app = FastAPI(
        title="Warmline",
        version=importlib.metadata.version("warmline"),
        # Their pages load scripts from elsewhere, which a machine without a network cannot; /openapi.json stays.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.observer = observer
    problems.install(app)
    openapi.install(app, description=DESCRIPTION, bodies=(JobRequest, BatchRequest, Wanted, UploadRequest))
    for module in (
        health,
        jobs,
        batches,
        aggregates,
        pictures,
        dead_letters,
        reconciliations,
        events,
        uploads,
        schemas,
        webhooks,
        metrics,
        workers,
        overview,
        dashboard,
    ):
        app.include_router(module.router)
    # The last one added is the first to see a request.
    app.add_middleware(
        LimitBody, max_bytes=settings.api.max_body_bytes, max_event_bytes=settings.triggers.max_body_bytes
    )
    app.add_middleware(RequireKey, settings=settings)
    app.add_middleware(RequestLog, answered=services.metrics.answered)
    if tracing.on:
        app.add_middleware(TraceRequests, tracing=tracing)
    return app


def main() -> None:
    """Serves the API until SIGTERM or SIGINT. Exit code 2: the settings are not usable; 3: the ledger is newer."""
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
