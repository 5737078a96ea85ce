"""What an API process does beside answering: it feeds the queue, posts webhooks, reconciles, and looks around."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from api.dependencies import Services
from api.observer import Observer
from config.settings import Settings
from warmline.jobs.feeder import Feeder
from warmline.objects.reconcile_schedule import ReconcileSchedule
from warmline.telemetry.tracing import Tracing
from warmline.webhooks.deliverer import Deliverer

STOP_SECONDS: Final = 3.0  # a Redis that hangs does not keep the process from ending


class Background:
    """One API process'. It runs for as long as the application does."""

    def __init__(self, settings: Settings, services: Services) -> None:
        """Raises SettingsError."""
        self.tracing = Tracing(settings, process="api")
        self.observer = Observer.of(services)
        self._services = services
        self._feeder = Feeder(settings, preferred=True)
        self._schedule = ReconcileSchedule(settings, services.reconciler)
        self._deliverer = Deliverer(settings, preferred=True, seen=services.metrics.posts.seen)

    @asynccontextmanager
    async def run(self, _: Any) -> AsyncIterator[None]:
        """As ASGI's lifespan: all of it runs within, and is stopped after that, with the services."""
        # Beside the start and not before it: without Redis the API must still come up and say so.
        threading.Thread(target=self._services.open, daemon=True).start()
        self.tracing.begin()
        self._feeder.start()
        self._schedule.start()
        self._deliverer.start()
        self.observer.start()
        # What was imported stays: a garbage collection that looked through it all would hold up every request.
        gc.freeze()
        yield
        ending = threading.Thread(target=self._stop, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, STOP_SECONDS)

    def _stop(self) -> None:
        self.observer.stop()
        self._schedule.stop()
        self._deliverer.stop()
        self._feeder.stop()
        self._services.close()
        self.tracing.stop()
