"""Checks of what must answer: Redis, S3, the API, a worker; and of the ports that the stack would like to have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from config.settings import RedisSettings, Settings
from warmline.jobs.delivery_ledger import DeliveryLedger
from warmline.jobs.errors import LedgerTooNew, WarmlineError
from warmline.jobs.layout import LAYOUT, refuse_newer
from warmline.jobs.ledger import Ledger
from warmline.jobs.redis_facts import RedisFacts, read_redis_facts
from warmline.local.checks.findings import Finding, fail, ok, warn
from warmline.local.directory import StackDirectory
from warmline.local.lock import lock_holder
from warmline.local.ports import is_free
from warmline.local.probes import page_waits_for
from warmline.objects.store import ObjectStore


def ports(settings: Settings) -> Iterator[Finding]:
    """The usual ports of the stack, unless it runs."""
    if _stack_runs(settings):
        yield ok("ports", f"a stack runs on {settings.stack.data_dir}")
        return
    usual = {
        "WARMLINE_STACK_VALKEY_PORT": settings.stack.valkey_port,
        "WARMLINE_STACK_S3_PORT": settings.stack.s3_port,
        "WARMLINE_API_PORT": settings.api.port,
        "WARMLINE_FLOWER_PORT": settings.flower.port,
    }
    taken = [f"{port} ({variable})" for variable, port in usual.items() if not is_free(port)]
    if taken:
        mend = "`warmline up` takes others and says which; `warmline-api` and Flower alone need theirs free."
        yield warn("ports", f"taken: {', '.join(taken)}", mend)
    else:
        yield ok("ports", f"free: {', '.join(str(port) for port in usual.values())}")


def redis(settings: Settings) -> Iterator[Finding]:
    """The ledger and the queue: reachable, and safe to leave jobs with."""
    try:
        facts = read_redis_facts(settings.redis)
    except WarmlineError as error:
        if settings.stack.embed_redis and settings.redis.url == RedisSettings.model_fields["url"].default:
            yield ok("redis", "none runs now; `warmline up` brings its own")
        else:
            yield fail("redis", error.message, "Start it, or set WARMLINE_REDIS_URL to one that runs.")
        return
    yield ok("redis", f"{facts.name} {facts.version} answers")
    yield _layout(facts)
    yield _persistence(facts)
    if facts.maxmemory_policy == "noeviction":
        yield ok("redis eviction", "none: it refuses new jobs when memory runs out, and keeps the old ones")
    elif facts.maxmemory_bytes == 0:
        mend = "Set maxmemory-policy to noeviction before anybody sets a limit."
        yield warn("redis eviction", f"{facts.maxmemory_policy}, though without a limit to memory", mend)
    else:
        mend = "Set maxmemory-policy to noeviction: `redis-cli CONFIG SET maxmemory-policy noeviction`."
        yield fail("redis eviction", f"{facts.maxmemory_policy}: jobs are forgotten when memory runs out", mend)


def _layout(facts: RedisFacts) -> Finding:
    if facts.ledger is None:
        return ok("ledger", f"not used yet by Warmline 0.2 or newer; layout {LAYOUT} will be written")
    try:
        found = refuse_newer(facts.ledger)
    except LedgerTooNew as error:
        return fail("ledger", error.message, "Install the version of Warmline that the other machines run.")
    since = f"{found.written_at:%Y-%m-%d}"
    return ok("ledger", f"layout {found.layout}, written by Warmline {found.written_by} on {since}")


def _persistence(facts: RedisFacts) -> Finding:
    if facts.append_only:
        return ok("redis persistence", "the append-only file is on")
    mend = "Turn it on (`appendonly yes`), best with `appendfsync always`."
    return warn("redis persistence", "no append-only file: accepted jobs are lost with the server", mend)


def s3(settings: Settings) -> Iterator[Finding]:
    """The object store: reachable, calls readable, reports writable."""
    if settings.stack.embed_s3 and not settings.s3.endpoint_url and not settings.s3.access_key.get_secret_value():
        yield ok("s3", "none is set; `warmline up` brings its own")
        return
    with closing(ObjectStore(settings.s3)) as store:
        try:
            store.ping()
        except WarmlineError as error:
            yield fail("s3", error.message, "Check WARMLINE_S3_ENDPOINT_URL, its keys, and the network.")
            return
        yield ok("s3", f"{settings.s3.endpoint_url or 'AWS'} answers and takes the keys")
        for bucket in settings.s3.source_buckets:
            yield _source_bucket(bucket, store)
        if settings.general.results != "redis":
            yield _results_bucket(settings, store)


def _source_bucket(bucket: str, store: ObjectStore) -> Finding:
    try:
        next(store.list_keys(bucket), None)
    except WarmlineError as error:
        mend = "Make the bucket, allow s3:ListBucket and s3:GetObject, or set WARMLINE_S3_SOURCE_BUCKETS."
        return fail(f"bucket {bucket}", error.message, mend)
    return ok(f"bucket {bucket}", "calls can be listed")


def _results_bucket(settings: Settings, store: ObjectStore) -> Finding:
    bucket = settings.s3.results_bucket
    try:
        key = store.check_writable()
    except WarmlineError as error:
        mend = "Make the bucket, allow s3:PutObject there, or set WARMLINE_S3_RESULTS_BUCKET (WARMLINE_RESULTS)."
        return fail(f"bucket {bucket}", error.message, mend)
    return ok(f"bucket {bucket}", f"reports can be written (tried with {key})")


def api(settings: Settings) -> Iterator[Finding]:
    """The API answers."""
    url = settings.api.base_url
    if page_waits_for(f"{url}/live") is None:
        yield ok("api", f"{url} answers")
    else:
        yield warn(
            "api", f"{url} does not answer", "Start it: `warmline up` for all parts, `warmline-api` for it alone."
        )


def worker(settings: Settings) -> Iterator[Finding]:
    """A worker is warm."""
    ledger = Ledger.connect(settings.redis, settings.jobs)
    try:
        workers = ledger.workers()
    except WarmlineError:
        return  # said by `redis`
    finally:
        ledger.close()
    warm = sum(len(each.warm) for each in workers)
    if warm:
        yield ok("worker", f"{warm} warm children in {len(workers)} workers")
    else:
        mend = (
            "Start one: `warmline up` for all parts, `warmline-worker` for it alone; its log says why it is not."
        )
        yield warn("worker", f"{len(workers)} workers, none of them warm", mend)


def webhooks(settings: Settings) -> Iterator[Finding]:
    """Who is told when jobs end; nothing where nobody is."""
    with closing(DeliveryLedger.connect(settings.redis, settings.jobs)) as ledger:
        try:
            state = ledger.state()
        except WarmlineError:
            return  # said by `redis`
    if not state.events:
        if settings.webhooks.urls:
            mend = "Start the API with WARMLINE_WEBHOOKS_URLS: its settings decide."
            yield warn("webhooks", "addresses are set, and nobody is told", mend)
        return
    told = (
        f"addresses: {len(state.endpoints)}; {state.pending} pending, {state.failed} failed, {state.waiting} wait"
    )
    if not state.delivering:
        yield warn("webhooks", f"{told}; nobody delivers", "Start the API with WARMLINE_WEBHOOKS_URLS.")
    elif any(endpoint.disabled_at for endpoint in state.endpoints):
        yield warn("webhooks", f"{told}; one answered 410 Gone", "See `warmline webhooks list`, then `enable` it.")
    elif state.dropped:
        mend = "Raise WARMLINE_WEBHOOKS_MAX_WAITING, and see why they waited: `warmline webhooks list`."
        yield warn("webhooks", f"{told}; {state.dropped} endings were dropped", mend)
    else:
        yield ok("webhooks", told)


def _stack_runs(settings: Settings) -> bool:
    return lock_holder(StackDirectory(settings.stack.data_dir).lock_file) is not None
