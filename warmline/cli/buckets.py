"""`warmline buckets`: a store that has what Warmline needs of it, before anybody uploads a call."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from config.settings import Settings, load_settings
from warmline.jobs.errors import TransientError
from warmline.objects.store import ObjectStore

ATTEMPT_SECONDS = 5.0  # a store that starts may take a connection and say nothing for long
AGAIN_SECONDS = 0.5


def buckets(
    wait_seconds: Annotated[
        float, typer.Option("--wait", min=0, help="How long to wait for a store that does not answer yet.")
    ] = 0.0,
) -> None:
    """Makes the buckets for calls and reports where they are missing, and proves that reports can be put."""
    settings = load_settings()
    deadline = time.monotonic() + wait_seconds
    patience = min(ATTEMPT_SECONDS, settings.s3.timeout_seconds)
    store = ObjectStore(settings.s3.model_copy(update={"timeout_seconds": patience}), attempts=1)
    try:
        while True:
            try:
                make_buckets(store, settings)
            except TransientError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(AGAIN_SECONDS)
            else:
                break
    finally:
        store.close()
    for bucket in (*settings.s3.source_buckets, settings.s3.results_bucket):
        typer.echo(f"s3://{bucket}")


def make_buckets(store: ObjectStore, settings: Settings) -> None:
    """What the command does, once. Raises what the store raises: StoreUnavailable, ObjectForbidden, …"""
    for bucket in (*settings.s3.source_buckets, settings.s3.results_bucket):
        store.ensure_bucket(bucket)
    if settings.uploads.cors_origins:
        for bucket in settings.s3.source_buckets:
            store.allow_origins(bucket, settings.uploads.cors_origins)
    store.check_writable(anew=True)
