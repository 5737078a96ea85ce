"""Reports read and replaced by plain HTTP in a real S3: as boto3 does it, and boto3 does it where that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from mypy_boto3_s3.client import S3Client
from pydantic import SecretStr

from config.settings import S3Settings
from tests.faulty_proxy import Fault, FaultyProxy, Mode
from warmline.jobs.errors import ObjectChanged, ObjectForbidden, ObjectNotFound, StoreUnavailable
from warmline.jobs.records import ReportLocation
from warmline.objects.plain_reports import PlainReports, takes_plain_http
from warmline.objects.store import ObjectStore

AWKWARD = ("a b/é客+%2F&#?=~@.json", "a//b@.json", "'(!*;:,)[]@.json")


@pytest.fixture(scope="module")
def proxy(s3_settings: S3Settings) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_settings.endpoint_url) as made:
        yield made


@pytest.fixture
def plain(s3_settings: S3Settings, proxy: FaultyProxy) -> Iterator[PlainReports]:
    """Through the proxy, which writes down what was asked."""
    proxy.fail(None)
    proxy.answered.clear()
    settings = s3_settings.model_copy(update={"endpoint_url": proxy.address})
    with closing(PlainReports(settings)) as made:
        yield made


@pytest.fixture
def put(s3_settings: S3Settings, s3_prefix: str) -> Iterator[Callable[[str, bytes], tuple[str, str]]]:
    """Puts a report as others do; returns its key and ETag."""
    with closing(ObjectStore(s3_settings)) as store:

        def put(name: str, body: bytes) -> tuple[str, str]:
            assert store.put_report(f"{s3_prefix}{name}", body)
            ((key, etag),) = store.list_reports(f"{s3_prefix}{name}")
            return key, etag

        yield put


def read(store: ObjectStore, key: str) -> bytes:
    return store.get_report(ReportLocation(bucket="reports", key=key))


@pytest.mark.parametrize("name", AWKWARD)
def test_a_report_is_read_and_replaced_with_a_request_each(
    plain: PlainReports, proxy: FaultyProxy, s3_client: S3Client, put: Callable[..., tuple[str, str]], name: str
) -> None:
    body = bytes(range(256)) * 400
    key, etag = put(name, body)

    assert read(plain, key) == body
    replaced = plain.replace_report(key, b'{"n": 2}', etag)

    assert [(method, status) for method, _, status in proxy.answered] == [("GET", 200), ("PUT", 200)]
    found = s3_client.get_object(Bucket="reports", Key=key)
    assert found["Body"].read() == b'{"n": 2}'
    assert found["ETag"] == f'"{replaced}"'
    assert found["ContentType"] == "application/json"


def test_one_connection_carries_many_requests(
    s3_settings: S3Settings, put: Callable[..., tuple[str, str]]
) -> None:
    key, etag = put("r@.json", b"{}")
    with closing(PlainReports(s3_settings)) as store:
        assert store._plain is not None
        pool = store._plain._client()
        for number in range(20):
            etag = store.replace_report(key, b'{"n": %d}' % number, etag)
            assert read(store, key) == b'{"n": %d}' % number
        assert pool.num_requests == 40
        assert pool.num_connections < 10  # one, unless the machine slept for so long that the store hung up
        store.close()
        assert store._plain._client() is not pool
        assert read(store, key) == b'{"n": 19}'


def test_what_was_replaced_meanwhile_stays(plain: PlainReports, put: Callable[..., tuple[str, str]]) -> None:
    key, etag = put("r@.json", b"{}")
    plain.replace_report(key, b'{"n": 2}', etag)
    with pytest.raises(ObjectChanged, match=r"r@\.json.*PreconditionFailed"):
        plain.replace_report(key, b'{"n": 3}', etag)
    assert read(plain, key) == b'{"n": 2}'


def test_what_is_not_there_is_not_found(plain: PlainReports) -> None:
    for location in (ReportLocation(bucket="reports", key="gone@.json"), ReportLocation(in_redis=True)):
        with pytest.raises(ObjectNotFound):
            plain.get_report(location)
    with pytest.raises(ObjectChanged):
        plain.replace_report("gone@.json", b"{}", "0" * 32)


def test_wrong_credentials_are_refused(s3_settings: S3Settings, put: Callable[..., tuple[str, str]]) -> None:
    key, etag = put("r@.json", b"{}")
    settings = s3_settings.model_copy(update={"secret_key": SecretStr("wrong-secret")})
    with closing(PlainReports(settings)) as store:
        with pytest.raises(ObjectForbidden, match="credentials"):
            read(store, key)
        with pytest.raises(ObjectForbidden, match="credentials"):
            store.replace_report(key, b'{"n": 2}', etag)
        assert "wrong-secret" not in f"{vars(store)!r} {vars(store._plain)!r}"


@pytest.mark.parametrize("mode", [Mode.LOSE_REQUEST, Mode.THROTTLE])
def test_boto3_tries_again_what_failed(
    plain: PlainReports, proxy: FaultyProxy, put: Callable[..., tuple[str, str]], mode: Mode
) -> None:
    key, etag = put("r@.json", b'{"n": 1}')
    with proxy.failing(Fault(mode=mode, times=1)):
        assert read(plain, key) == b'{"n": 1}'
        assert proxy.failed == 1
    with proxy.failing(Fault(mode=mode, times=1)):
        plain.replace_report(key, b'{"n": 2}', etag)
        assert proxy.failed == 1
    assert read(plain, key) == b'{"n": 2}'


def test_a_store_that_goes_on_failing_is_unavailable(
    plain: PlainReports, proxy: FaultyProxy, put: Callable[..., tuple[str, str]]
) -> None:
    key, etag = put("r@.json", b"{}")
    with proxy.failing(Fault(mode=Mode.THROTTLE)):
        with pytest.raises(StoreUnavailable, match="SlowDown"):
            read(plain, key)
        with pytest.raises(StoreUnavailable, match="SlowDown"):
            plain.replace_report(key, b'{"n": 2}', etag)
    assert read(plain, key) == b"{}"


def test_a_body_that_ends_early_is_no_report(
    plain: PlainReports, proxy: FaultyProxy, put: Callable[..., tuple[str, str]]
) -> None:
    key, _ = put("r@.json", b" " * 300_000)
    with (
        proxy.failing(Fault(mode=Mode.CUT, answer_bytes=100_000)),
        pytest.raises(StoreUnavailable, match=r"r@\.json"),
    ):
        read(plain, key)
    assert len(read(plain, key)) == 300_000


def test_an_answer_that_was_lost_is_no_second_write(
    plain: PlainReports, proxy: FaultyProxy, put: Callable[..., tuple[str, str]]
) -> None:
    # The report was replaced, and the one who did so cannot know it: another's might lie there by now
    key, etag = put("r@.json", b"{}")
    with proxy.failing(Fault(mode=Mode.LOSE_ANSWER, methods=("PUT",), times=1)), pytest.raises(ObjectChanged):
        plain.replace_report(key, b'{"n": 2}', etag)
    assert read(plain, key) == b'{"n": 2}'


KEYS = {"access_key": SecretStr("a"), "secret_key": SecretStr("b")}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (KEYS | {"endpoint_url": "http://127.0.0.1:8333"}, True),
        (KEYS | {"endpoint_url": "http://[::1]:8333"}, True),
        (KEYS | {"endpoint_url": "http://minio:9000/s3/"}, True),
        (KEYS | {"endpoint_url": "https://minio:9000"}, False),
        (KEYS | {"endpoint_url": ""}, False),
        (KEYS | {"endpoint_url": "http://"}, False),
        (KEYS | {"endpoint_url": "http://minio:port"}, False),
        (KEYS | {"endpoint_url": "http://[::1"}, False),
        ({"endpoint_url": "http://127.0.0.1:8333"}, False),
        ({"endpoint_url": "http://127.0.0.1:8333", "access_key": SecretStr("a")}, False),
    ],
)
def test_which_stores_are_asked_so(
    settings: dict[str, object], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert takes_plain_http(S3Settings.model_validate(settings)) is expected


def test_a_company_s_proxy_is_boto3_s_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    elsewhere, here, inside = (
        S3Settings.model_validate(KEYS | {"endpoint_url": f"http://{host}:9000"})
        for host in ("minio.example", "127.0.0.1", "inside.example")
    )
    assert not takes_plain_http(elsewhere)
    assert takes_plain_http(here)
    assert takes_plain_http(inside)
