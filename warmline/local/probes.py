"""How to tell that a part serves: by asking it what its users will ask. None means yes; else what it waits for."""

from __future__ import annotations

import httpx

from config.settings import Settings
from warmline.jobs.errors import WarmlineError
from warmline.jobs.ledger import Ledger
from warmline.local.seaweedfs import SeaweedfsServer
from warmline.objects.store import ObjectStore

_ANSWER_SECONDS = 2.0


def s3_waits_for(server: SeaweedfsServer, store: ObjectStore, settings: Settings) -> str | None:
    """S3 serves when it takes its keys, has the buckets, which are made when missing, and takes an object."""
    if not server.answers():
        return "its first answer"
    try:
        for bucket in (*settings.s3.source_buckets, settings.s3.results_bucket):
            store.ensure_bucket(bucket)
        for bucket in settings.s3.source_buckets:
            store.allow_origins(bucket, settings.uploads.cors_origins)
        # The first PUT into an empty SeaweedFS takes most of a second, which would be the first job's. After a
        # restart one may take 20 s, when it comes before its volumes are known: then the next attempt is quick.
        store.check_writable(anew=True)
    except WarmlineError as error:
        return f"its buckets: {error.message}"
    return None


def page_waits_for(url: str) -> str | None:
    """A web service serves when this page of its own is there."""
    try:
        # trust_env: a proxy between us and ourselves would answer in its stead.
        status = httpx.get(url, timeout=_ANSWER_SECONDS, trust_env=False).status_code
    except httpx.TransportError:
        return "its first answer"
    return None if status == httpx.codes.OK else f"{url} to answer 200 instead of {status}"


def worker_waits_for(ledger: Ledger, pid: int) -> str | None:
    """A worker serves when its heartbeat in the ledger says that every child is warm."""
    try:
        # By pid: the heartbeat of a worker that was killed stays for a while.
        mine = [worker for worker in ledger.workers() if worker.pid == pid]
    except WarmlineError as error:
        return f"the ledger: {error.message}"
    if not mine:
        return "the model to load"
    warm, children = len(mine[0].warm), mine[0].children
    return None if warm >= children else f"the model to load in each child ({warm} of {children} warm)"
