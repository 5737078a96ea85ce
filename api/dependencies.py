"""What routes work with, made once for the application and handed to them by FastAPI."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Annotated, Final, Self

import structlog
from fastapi import Depends, Request

from api.glance import FleetGlance
from api.metrics import ApiMetrics, FleetFigures
from config.settings import Settings
from warmline.jobs.conditions import FleetLedger
from warmline.jobs.delivery_ledger import DeliveryLedger
from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.ledger import Ledger
from warmline.jobs.upload_ledger import UploadLedger
from warmline.objects.presign import Presigner
from warmline.objects.reconcile import Reconciler
from warmline.objects.store import ObjectStore
from warmline.triggers.intake import Intake
from warmline.triggers.rules import Rules
from warmline.triggers.sns import Sns

log = structlog.get_logger()

# A worker can wait for Redis and S3; who waits for an HTTP answer would rather have a 503 and try again.
REDIS_SECONDS: Final = 2.0
STORE_SECONDS: Final = 4.0
STORE_ATTEMPTS: Final = 2
PICTURES_AT_ONCE: Final = 2  # a long call's report takes some hundred megabytes while it is drawn


@dataclass(frozen=True, kw_only=True)
class Services:
    """The ledger, the store and what works with them. Threads share them; each connects at its first use."""

    settings: Settings
    ledger: Ledger
    deliveries: DeliveryLedger
    store: ObjectStore
    reconciler: Reconciler
    rules: Rules
    intake: Intake
    presigner: Presigner
    sns: Sns
    fleet: FleetLedger
    glance: FleetGlance
    metrics: ApiMetrics
    summing: threading.Lock = field(default_factory=threading.Lock)  # one batch is summed up at a time
    drawing: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(PICTURES_AT_ONCE))

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Services at the addresses in the settings. Raises SettingsError."""
        redis = settings.redis.model_copy(
            update={"timeout_seconds": min(settings.redis.timeout_seconds, REDIS_SECONDS)}
        )
        s3 = settings.s3.model_copy(update={"timeout_seconds": min(settings.s3.timeout_seconds, STORE_SECONDS)})
        fleet = FleetLedger.connect(redis, settings.jobs)
        deliveries = DeliveryLedger.connect(redis, settings.jobs)
        glance = FleetGlance(fleet, stalled_seconds=settings.worker.stalled_seconds)
        metrics = ApiMetrics(FleetFigures(glance, fleet, deliveries))
        store = ObjectStore(s3, attempts=STORE_ATTEMPTS, seen=metrics.store.seen)
        uploads = UploadLedger.connect(redis, settings.jobs)
        rules = Rules.load(settings)
        intake = Intake(settings, rules, uploads, store)
        return cls(
            settings=settings,
            ledger=Ledger.connect(redis, settings.jobs),
            deliveries=deliveries,
            store=store,
            reconciler=Reconciler(settings, front=redis, rules=intake),
            rules=rules,
            intake=intake,
            presigner=Presigner(s3),
            sns=Sns(settings.triggers),
            fleet=fleet,
            glance=glance,
            metrics=metrics,
        )

    def open(self) -> None:
        """Connects to Redis, so that the first submission does not wait for it. Without Redis it will, later."""
        try:
            self.ledger.ping()
        except LedgerUnavailable as error:
            log.warning("redis_not_reachable_yet", error=error.message)

    def close(self) -> None:
        """Closes the connections."""
        self.ledger.close()
        self.deliveries.close()
        self.fleet.close()
        self.store.close()
        self.reconciler.close()
        self.intake.close()
        self.presigner.close()


async def _services(request: Request) -> Services:  # without async, FastAPI would look for a thread to run it in
    services: Services = request.app.state.services
    return services


Provided = Annotated[Services, Depends(_services)]
