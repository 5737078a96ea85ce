"""The object store's client against a real S3 server, a slow one and a broken one included."""

from __future__ import annotations

import logging
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from mypy_boto3_s3.client import S3Client
from pydantic import SecretStr

from config.settings import S3Settings
from tests.faulty_proxy import Fault, FaultyProxy, Mode
from warmline.jobs.errors import (
    BucketNotAllowed,
    ObjectChanged,
    ObjectForbidden,
    ObjectNotFound,
    ObjectTooLarge,
    StoreMisconfigured,
    StoreUnavailable,
)
from warmline.jobs.records import ReportLocation, Source
from warmline.objects.store import ObjectStore

AWKWARD = "a b/é客+%2F&#?.wav"


@pytest.fixture(scope="module")
def store(s3_settings: S3Settings) -> Iterator[ObjectStore]:
    with closing(ObjectStore(s3_settings)) as made:
        yield made


@pytest.fixture
def upload(store: ObjectStore, s3_prefix: str, tmp_path: Path) -> Callable[..., Source]:
    """Puts bytes under a key of this test's own."""

    def put(name: str, body: bytes, bucket: str = "calls") -> Source:
        path = tmp_path / "upload"
        path.write_bytes(body)
        return store.put_call(bucket, f"{s3_prefix}{name}", path)

    return put


def with_(settings: S3Settings, **changes: object) -> ObjectStore:
    return ObjectStore(settings.model_copy(update=changes))


# Reading calls


@pytest.mark.parametrize("name", ["plain.wav", AWKWARD, "empty.wav"])
def test_a_call_comes_as_it_was_put(
    store: ObjectStore, upload: Callable[..., Source], tmp_path: Path, name: str
) -> None:
    body = b"" if name == "empty.wav" else bytes(range(256)) * 5000
    source = upload(name, body)

    facts = store.fetch(source, tmp_path / "call")

    assert (tmp_path / "call").read_bytes() == body
    assert facts.size_bytes == len(body)
    assert facts == store.head(source)
    assert '"' not in facts.etag


@pytest.mark.parametrize("bucket", ["calls", "no-such-bucket"])
def test_what_is_not_there_is_not_found(s3_settings: S3Settings, tmp_path: Path, bucket: str) -> None:
    with closing(with_(s3_settings, source_buckets=("calls", "no-such-bucket"))) as store:
        source = Source(bucket=bucket, key="no such key.wav")
        with pytest.raises(ObjectNotFound, match=r"no such key\.wav"):
            store.head(source)
        with pytest.raises(ObjectNotFound):
            store.fetch(source, tmp_path / "call")
    assert not (tmp_path / "call").exists()


def test_a_bucket_that_is_not_allowed_is_not_even_asked_for(tmp_path: Path) -> None:
    # Given a store that nothing answers for, when the bucket is not on the list, then that is what is said
    store = ObjectStore(S3Settings(endpoint_url="http://127.0.0.1:1", source_buckets=("calls",)))
    source = Source(bucket="payroll", key="a.wav")
    with pytest.raises(BucketNotAllowed, match="payroll"):
        store.head(source)
    with pytest.raises(BucketNotAllowed):
        store.fetch(source, tmp_path / "call")
    with pytest.raises(BucketNotAllowed):
        next(store.list_keys("payroll"))


def test_an_object_replaced_between_head_and_get_is_changed(
    store: ObjectStore, upload: Callable[..., Source], tmp_path: Path
) -> None:
    facts = store.head(upload("a.wav", b"one"))
    source = upload("a.wav", b"two")

    with pytest.raises(ObjectChanged, match=r"a\.wav.*submit it again.*PreconditionFailed"):
        store.fetch(source, tmp_path / "call", expected=facts)
    assert not (tmp_path / "call").exists()


def test_a_version_is_fetched_as_it_was(
    s3_settings: S3Settings, s3_client: S3Client, new_bucket: Callable[[], str], tmp_path: Path
) -> None:
    # Given a bucket with versions, and an object that was replaced and then deleted
    bucket = new_bucket()
    s3_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first, second = (
        s3_client.put_object(Bucket=bucket, Key="v.wav", Body=body)["VersionId"] for body in (b"one", b"two!")
    )
    s3_client.delete_object(Bucket=bucket, Key="v.wav")

    with closing(with_(s3_settings, source_buckets=(bucket,))) as store:
        # Then each version can still be had by its name
        for version, body in ((first, b"one"), (second, b"two!")):
            source = Source(bucket=bucket, key="v.wav", version_id=version)
            facts = store.fetch(source, tmp_path / "call")
            assert (tmp_path / "call").read_bytes() == body
            assert facts.version_id == version
        # And what is current is not there, and neither is a version that never was
        for version_id in (None, "0" * 32):
            with pytest.raises(ObjectNotFound):
                store.head(Source(bucket=bucket, key="v.wav", version_id=version_id))


def test_a_version_in_a_bucket_without_versions_is_not_found(
    store: ObjectStore, upload: Callable[..., Source]
) -> None:
    source = upload("a.wav", b"one").model_copy(update={"version_id": "3f2a"})
    with pytest.raises(ObjectNotFound, match="no such version"):
        store.head(source)


def test_a_large_object_is_refused_by_its_head_and_again_while_it_streams(
    store: ObjectStore, s3_settings: S3Settings, upload: Callable[..., Source], tmp_path: Path
) -> None:
    source = upload("large.wav", b"x" * 100_001)
    facts = store.head(source)
    with closing(with_(s3_settings, max_object_bytes=100_000)) as small:
        with pytest.raises(ObjectTooLarge, match=r"100,001 bytes.*WARMLINE_S3_MAX_OBJECT_BYTES"):
            small.head(source)
        with pytest.raises(ObjectTooLarge):
            small.fetch(source, tmp_path / "call", expected=facts)
    assert not (tmp_path / "call").exists()


def test_memory_does_not_grow_with_the_call(
    store: ObjectStore, upload: Callable[..., Source], tmp_path: Path
) -> None:
    source = upload("long.wav", b"x" * 48_000_000)
    store.head(source)  # the client is built

    tracemalloc.start()
    store.fetch(source, tmp_path / "call")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (tmp_path / "call").stat().st_size == 48_000_000
    assert peak_bytes < 8_000_000


# A store that is wrong, slow or gone


@pytest.mark.parametrize("wrong", [{"secret_key": SecretStr("wrong-secret")}, {"access_key": SecretStr("nobody")}])
def test_wrong_credentials_are_refused_without_being_shown(
    s3_settings: S3Settings, wrong: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = s3_settings.secret_key.get_secret_value()
    with closing(with_(s3_settings, **wrong)) as store:
        for action in (
            lambda: store.head(Source(bucket="calls", key="a.wav")),
            lambda: store.put_report("a.json", b"{}"),
            lambda: list(store.list_keys("calls")),
            store.ping,
        ):
            with pytest.raises(ObjectForbidden, match="credentials") as caught:
                action()
            assert secret not in str(caught.value)
        assert "botocore" in caplog.text  # even with every library at DEBUG
        for hidden in (secret, "wrong-secret"):
            assert hidden not in f"{caplog.text} {store!r} {vars(store)!r}"


def test_half_of_the_credentials_is_an_error() -> None:
    store = ObjectStore(S3Settings(endpoint_url="http://127.0.0.1:1", access_key=SecretStr("a")))
    with pytest.raises(ObjectForbidden, match="WARMLINE_S3_SECRET_KEY"):
        store.ping()


@pytest.mark.parametrize("address", ["no address", "127.0.0.1:8333", "http://"])
def test_an_address_that_is_none_is_named(address: str) -> None:
    store = ObjectStore(S3Settings(endpoint_url=address, access_key=SecretStr("a"), secret_key=SecretStr("b")))
    with pytest.raises(StoreMisconfigured, match="WARMLINE_S3_ENDPOINT_URL"):
        store.ping()


def test_a_store_that_is_not_there_is_unavailable_at_once(s3_settings: S3Settings, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refused
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with closing(with_(s3_settings, endpoint_url=address)) as store:
            started = time.perf_counter()
            with pytest.raises(StoreUnavailable, match="WARMLINE_S3_ENDPOINT_URL"):
                store.fetch(Source(bucket="calls", key="a.wav"), tmp_path / "call")
            assert time.perf_counter() - started < 25.0  # three attempts, and the waits between them


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.STALL])
def test_a_body_that_ends_early_is_unavailable_and_leaves_nothing(
    store: ObjectStore, s3_settings: S3Settings, upload: Callable[..., Source], tmp_path: Path, mode: Mode
) -> None:
    source = upload("long.wav", b"x" * 3_000_000)
    facts = store.head(source)
    with (
        FaultyProxy(s3_settings.endpoint_url) as proxy,
        closing(with_(s3_settings, endpoint_url=proxy.address, timeout_seconds=1.0)) as broken,
    ):
        proxy.fail(Fault(mode=mode, answer_bytes=1_000_000))
        started = time.perf_counter()
        with pytest.raises(StoreUnavailable, match=r"long\.wav"):
            broken.fetch(source, tmp_path / "call", expected=facts)
        assert proxy.failed
        assert time.perf_counter() - started < 25.0  # the proxy would be silent for 30 s
    assert not (tmp_path / "call").exists()


# Reports


def test_a_report_is_written_once(store: ObjectStore, s3_prefix: str) -> None:
    key = f"{s3_prefix}a=20b/report@1.json"
    assert store.put_report(key, b'{"n": 1}') is True
    assert store.put_report(key, b'{"n": 2}') is False
    assert store.get_report(ReportLocation(bucket="reports", key=key)) == b'{"n": 1}'


def test_a_report_is_sent_at_once_and_a_recording_when_the_store_has_agreed(
    s3_settings: S3Settings, s3_prefix: str, tmp_path: Path
) -> None:
    recording = tmp_path / "call.wav"
    recording.write_bytes(b"x" * 1000)
    asked_first: list[bool] = []
    with closing(ObjectStore(s3_settings)) as store:
        client = store._client()
        client.meta.events.register(
            "before-send.s3", lambda request, **_: asked_first.append("Expect" in request.headers)
        )
        store.put_report(f"{s3_prefix}small.json", b"{}")
        store.put_report(f"{s3_prefix}large.json", b" " * (256 * 1024 + 1))
        store.put_call("calls", f"{s3_prefix}call.wav", recording)
    assert asked_first == [False, True, True]


def test_of_many_writers_one_writes_the_report(store: ObjectStore, s3_prefix: str) -> None:
    key = f"{s3_prefix}report.json"
    bodies = [b'{"n": %d}' % n for n in range(8)]
    with ThreadPoolExecutor(len(bodies)) as pool:
        wrote = list(pool.map(lambda body: store.put_report(key, body), bodies))

    assert wrote.count(True) == 1
    found = store.get_report(ReportLocation(bucket="reports", key=key))
    assert found == bodies[wrote.index(True)]


def test_a_report_is_json_to_whoever_opens_it(store: ObjectStore, s3_client: S3Client, s3_prefix: str) -> None:
    store.put_report(f"{s3_prefix}r.json", b"{}")
    assert s3_client.head_object(Bucket="reports", Key=f"{s3_prefix}r.json")["ContentType"] == "application/json"


@pytest.mark.parametrize(
    "location", [ReportLocation(bucket="reports", key="gone.json"), ReportLocation(in_redis=True)]
)
def test_a_report_that_is_not_in_s3_is_not_found(store: ObjectStore, location: ReportLocation) -> None:
    with pytest.raises(ObjectNotFound):
        store.get_report(location)


# Listing and buckets


def test_a_listing_goes_over_its_pages_and_leaves_folder_markers_out(
    store: ObjectStore, s3_client: S3Client, upload: Callable[..., Source], s3_prefix: str
) -> None:
    names = ["a.wav", "b/a.wav", "b/c d+é.wav", "b/z/0.wav", "c.wav"]
    sources = [upload(name, b"x") for name in names]
    s3_client.put_object(Bucket="calls", Key=f"{s3_prefix}b/", Body=b"")

    assert list(store.list_keys("calls", s3_prefix, page_size=2)) == sources
    assert list(store.list_keys("calls", f"{s3_prefix}b/")) == sources[1:4]
    assert list(store.list_keys("calls", f"{s3_prefix}nothing")) == []


def test_our_own_reports_are_not_listed_as_calls(
    s3_settings: S3Settings, upload: Callable[..., Source], s3_prefix: str
) -> None:
    # Given reports that are written into the bucket of the calls, under a prefix of their own
    call = upload("calls/a.wav", b"x")
    shared = with_(s3_settings, results_bucket="calls", results_prefix=f"{s3_prefix}reports/")
    with closing(shared) as store:
        store.put_report(f"{s3_prefix}reports/a.json", b"{}")
        assert list(store.list_keys("calls", s3_prefix)) == [call]


def test_listing_a_bucket_that_is_not_there_says_so(s3_settings: S3Settings) -> None:
    with (
        closing(with_(s3_settings, source_buckets=("no-such-bucket",))) as store,
        pytest.raises(ObjectNotFound, match="no such bucket"),
    ):
        list(store.list_keys("no-such-bucket"))


def test_a_bucket_is_made_once(store: ObjectStore, new_bucket: Callable[[], str]) -> None:
    store.ensure_bucket(new_bucket())  # made by the fixture; the second time is no error
    with pytest.raises(StoreMisconfigured, match="InvalidBucketName"):
        store.ensure_bucket("Not_A_Bucket")


def test_a_store_answers_before_it_has_a_bucket(s3_settings: S3Settings) -> None:
    with closing(with_(s3_settings, results_bucket="not-made-yet")) as store:
        store.ping()
