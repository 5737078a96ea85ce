"""What stores post leads to one job for each upload; what is not right leads to none, and says why."""

from __future__ import annotations

import base64
import gzip
import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.settings import S3Settings
from tests.api_process import ApiProcess, running_api
from tests.contract.api.conftest import KEYS, TOKENS
from tests.contract.api.stored_events import DIALECTS, Stored, of_aws, of_r2, record, records
from tests.contract.api.test_api_problems import json_values, refused
from tests.ports import choose_port
from tests.sns_server import SnsServer, body_of
from warmline.jobs.ledger import Ledger
from warmline.objects.store import ObjectStore

EVENTS = "/v1/events/s3"
BODY_BYTES = 1024**2
Upload = Callable[..., Stored]


@pytest.fixture
def sender(api: ApiProcess, hold_to_openapi: Callable[[httpx.Response], None]) -> Iterator[httpx.Client]:
    """A store that holds a token."""
    with httpx.Client(
        base_url=api.url,
        timeout=60,
        trust_env=False,
        headers={"Authorization": f"Bearer {TOKENS[0]}"},
        event_hooks={"response": [hold_to_openapi]},
    ) as client:
        yield client


@pytest.fixture
def upload(store: ObjectStore, s3_prefix: str, tmp_path: Path) -> Upload:
    """Puts an object into the bucket; each has content of its own."""

    def put(name: str = "call.wav") -> Stored:
        stored = Stored(key=f"{s3_prefix}{name}", content=uuid.uuid4().bytes)
        path = tmp_path / "call"
        path.write_bytes(stored.content)
        store.put_call(stored.bucket, stored.key, path)
        return stored

    return put


@pytest.fixture
def nothing_entered(ledger: Ledger, sns: SnsServer) -> Iterator[None]:
    """Fails if there is a job more after the test than before it, or if SNS was asked for anything."""
    before, asked = ledger.list(limit=1), len(sns.requests)
    yield
    assert [state.job.id for state in ledger.list(limit=1)] == [state.job.id for state in before]
    assert len(sns.requests) == asked


# From an upload to its job


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_upload_leads_to_a_job_whoever_announces_it(
    sender: httpx.Client, ledger: Ledger, upload: Upload, dialect: str
) -> None:
    # Given an object whose key needs the right decoding
    stored = upload("höre + & 100%/客服 1.wav")
    # When its store announces it, then its job is in the ledger
    answer = sender.post(EVENTS, content=DIALECTS[dialect](stored))
    assert answer.status_code == 202
    taken = answer.json()
    assert (taken["entered"], taken["malformed"], taken["skipped"], taken["failures"]) == (1, 0, {}, [])
    [named] = taken["jobs"]
    job = ledger.get(named["id"]).job
    assert (job.source.bucket, job.source.key, job.lane) == ("calls", stored.key, "bulk")
    assert sender.get(named["links"]["self"]).status_code == 401  # a store's token opens nothing else


def test_an_upload_that_is_announced_again_and_by_others_keeps_its_job(
    sender: httpx.Client, upload: Upload
) -> None:
    stored = upload()
    outcomes = [sender.post(EVENTS, content=DIALECTS[name](stored)).json() for name in [*DIALECTS, *DIALECTS]]
    assert [taken["entered"] for taken in outcomes] == [1] + [0] * (2 * len(DIALECTS) - 1)
    assert [taken["known"] for taken in outcomes] == [0] + [1] * (2 * len(DIALECTS) - 1)


def test_many_that_announce_one_upload_at_the_same_time_make_one_job(api: ApiProcess, upload: Upload) -> None:
    bodies = [make(upload_) for upload_ in [upload()] for make in DIALECTS.values() for _ in range(8)]

    def post(body: bytes) -> int:
        headers = {"Authorization": f"Bearer {TOKENS[1]}"}
        answer = httpx.post(f"{api.url}{EVENTS}", content=body, headers=headers, timeout=60, trust_env=False)
        return int(answer.json()["entered"])

    with ThreadPoolExecutor(12) as threads:
        assert sum(threads.map(post, bodies)) == 1


def test_new_content_is_a_new_job_and_an_older_event_is_none(sender: httpx.Client, upload: Upload) -> None:
    first, second = upload(), upload()
    late = records(record(first, sequencer="0055AED6DCD90281E0"))
    sent = [
        records(record(first, sequencer="0055AED6DCD90281E5")),
        records(record(second, sequencer="0055AED6DCD90281E7")),
        late,
    ]
    outcomes = [sender.post(EVENTS, content=body).json() for body in sent]
    assert [(taken["entered"], taken["older"]) for taken in outcomes] == [(1, 0), (1, 0), (0, 1)]


def test_what_announces_no_upload_is_counted_and_that_is_all(
    sender: httpx.Client, upload: Upload, nothing_entered: None
) -> None:
    stored = upload()
    expected = {
        json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "calls"}): {"test_event": 1},
        records(record(stored, name="ObjectRemoved:Delete")).decode(): {"deleted": 1},
        records(record(stored, name="ObjectTagging:Put")).decode(): {"other_event": 1},
    }
    for body, skipped in expected.items():
        answer = sender.post(EVENTS, content=body)
        assert (answer.status_code, answer.json()["skipped"]) == (202, skipped)


def test_keys_that_no_rule_wants_are_ignored(sender: httpx.Client, nothing_entered: None) -> None:
    answer = sender.post(EVENTS, content=of_aws(Stored(key="demo/call.wav", content=b"x")))
    assert (answer.status_code, answer.json()["ignored"]) == (202, 1)


def test_an_upload_whose_object_is_gone_is_no_job(sender: httpx.Client, nothing_entered: None) -> None:
    answer = sender.post(EVENTS, content=of_r2(Stored(key=f"{uuid.uuid4()}.wav", content=b"x")))
    assert (answer.status_code, answer.json()["gone"]) == (202, 1)


def test_bad_records_do_not_cost_their_siblings_their_jobs(sender: httpx.Client, upload: Upload) -> None:
    stored = upload()
    answer = sender.post(
        EVENTS,
        content=records(
            record(Stored(key="../a.wav", content=b"")),
            record(Stored(key="a.wav", content=b"", bucket="payroll")),
            {"eventSource": "aws:s3"},
            record(stored),
            record(stored, name="ObjectRemoved:Delete"),
        ),
    )
    taken = answer.json()
    assert answer.status_code == 202
    assert (taken["entered"], taken["refused"], taken["malformed"], taken["skipped"]) == (1, 1, 2, {"deleted": 1})
    assert [failure["code"] for failure in taken["failures"]] == ["bucket_not_allowed"]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=UTF-8", "", "image/png"])
def test_the_content_type_does_not_matter(sender: httpx.Client, upload: Upload, content_type: str) -> None:
    answer = sender.post(EVENTS, content=of_aws(upload()), headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["entered"]) == (202, 1)


def test_the_description_s_example_is_taken(sender: httpx.Client, openapi: dict[str, Any]) -> None:
    body = openapi["paths"][EVENTS]["post"]["requestBody"]["content"]["application/json"]["example"]
    answer = sender.post(EVENTS, json=body)
    assert (answer.status_code, answer.json()["malformed"], answer.json()["skipped"]) == (202, 0, {})


# Bad input


def with_key(key: str) -> bytes:
    """An event whose key comes encoded, as Amazon sends it."""
    return records(record(Stored(key="", content=b""), key=key))


BAD_BODIES = {
    "empty": (b"", 422, "not_an_event"),
    "broken": (b"{", 422, "not_an_event"),
    "not UTF-8": (b"\xff\xfe\x00", 422, "not_an_event"),
    "null": (b"null", 422, "not_an_event"),
    "number": (b"1", 422, "not_an_event"),
    "deep list": (b"[" * 500_000, 422, "not_an_event"),
    "deep object": (b'{"Records":' * 90_000, 422, "not_an_event"),
    "deep and closed": (b"[" * 400_000 + b"]" * 400_000, 422, "not_an_event"),
    "no records": (b'{"Records": []}', 422, "not_an_event"),
    "records are none": (b'{"Records": {}}', 422, "not_an_event"),
    "nothing known": (b'{"hello": "world"}', 422, "not_an_event"),
    "an empty record": (b'{"Records": [{}]}', 422, "invalid_request"),
    "too many records": (
        json.dumps({"Records": [{}] * 10_001}).encode(),
        422,
        "not_an_event",
    ),
    "too many uploads": (records(*[record(Stored(key="a", content=b""))] * 1001), 422, "invalid_request"),
    "out of the bucket": (with_key("a/../../b.wav"), 422, "invalid_request"),
    "out of the bucket, encoded": (with_key("a%2F..%2F..%2Fb.wav"), 422, "invalid_request"),
    "NUL": (with_key("a%00b.wav"), 422, "invalid_request"),
    "key too long": (with_key("x" * 1025), 422, "invalid_request"),
    "key too long in UTF-8": (with_key("%E5%AE%A2" * 342), 422, "invalid_request"),
    "no key": (with_key(""), 422, "invalid_request"),
    "a lone surrogate": (with_key("\ud800"), 422, "invalid_request"),
    "bad escape": (with_key("a%zz"), 422, "invalid_request"),
    "bucket that is none": (records(record(Stored(key="a", content=b"", bucket="../x"))), 422, "invalid_request"),
    "bucket of others": (
        records(record(Stored(key="a", content=b"", bucket="payroll"))),
        403,
        "bucket_not_allowed",
    ),
    "reports": (records(record(Stored(key="a", content=b"", bucket="reports"))), 403, "bucket_not_allowed"),
}


@pytest.mark.parametrize(("body", "status", "code"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body_leads_to_nothing(
    sender: httpx.Client, nothing_entered: None, body: bytes, status: int, code: str
) -> None:
    answer = sender.post(EVENTS, content=body)
    assert refused(answer) == (status, code)
    assert len(answer.text) < 10_000


@pytest.mark.parametrize("size", [BODY_BYTES + 1, 10 * BODY_BYTES])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit(sender: httpx.Client, nothing_entered: None, size: int, chunked: bool) -> None:
    content: Any = (b"x" * 65_536 for _ in range(-(-size // 65_536))) if chunked else b"x" * size
    answer = sender.post(EVENTS, content=content)
    assert refused(answer) == (413, "body_too_large")
    assert "WARMLINE_TRIGGERS_MAX_BODY_BYTES" in answer.json()["detail"]


def test_a_store_that_reads_only_when_it_has_sent_all_gets_its_answer(
    api: ApiProcess, nothing_entered: None
) -> None:
    with closing(HTTPConnection(httpx.URL(api.url).netloc.decode(), timeout=20)) as connection:
        connection.request("POST", EVENTS, b"x" * 10_000_000, {"Authorization": f"Bearer {TOKENS[0]}"})
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["code"]) == (413, "body_too_large")


def test_a_body_at_the_limit_is_taken(sender: httpx.Client, upload: Upload) -> None:
    body = of_aws(upload())
    assert sender.post(EVENTS, content=body.ljust(BODY_BYTES)).status_code == 202


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
def test_a_compressed_body_is_not_opened(sender: httpx.Client, nothing_entered: None, encoding: str) -> None:
    body = gzip.compress(of_aws(Stored(key="a.wav", content=b"x")))
    answer = sender.post(EVENTS, content=body, headers={"content-encoding": encoding})
    assert refused(answer) == (415, "encoding_not_supported")


items = st.fixed_dictionaries(
    {"key": st.text(max_size=20) | st.sampled_from(["demo/a.wav", "a%2Fb+c.wav", "%00", "../a"]) | json_values},
    optional={
        "eTag": st.text(max_size=5) | json_values,
        "size": json_values,
        "sequencer": st.sampled_from(["0055AED6DCD90281E5", "", "zz"]) | json_values,
        "versionId": json_values,
        "userMetadata": st.dictionaries(st.text(max_size=20), st.text(max_size=5), max_size=2) | json_values,
    },
)
posted = st.fixed_dictionaries(
    {"eventSource": st.sampled_from(["aws:s3", "minio:s3", "ceph:s3"]) | json_values},
    optional={
        "eventName": st.sampled_from(["ObjectCreated:Put", "s3:ObjectCreated:Copy", "ObjectRemoved:Delete"])
        | json_values,
        "eventTime": st.text(max_size=25) | json_values,
        "s3": st.fixed_dictionaries(
            {
                "bucket": st.fixed_dictionaries({"name": st.sampled_from(["calls", "payroll"]) | json_values}),
                "object": items | json_values,
            }
        )
        | json_values,
    },
)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(event=st.fixed_dictionaries({"Records": st.lists(posted, max_size=3) | json_values}) | posted | json_values)
def test_whatever_is_posted_is_taken_or_refused_in_form(sender: httpx.Client, event: Any) -> None:
    answer = sender.post(EVENTS, content=json.dumps(event))  # the client checks the form
    assert answer.status_code in {202, 403, 422}


# Who may


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {TOKENS[0]}",
        f"bearer  {TOKENS[1]}",
        TOKENS[0],  # MinIO's newer ones send what they are told to
        f"Bearer {KEYS[0]}",
        "Basic " + base64.b64encode(f"ceph:{TOKENS[0]}".encode()).decode(),
        "basic " + base64.b64encode(f":{TOKENS[1]}".encode()).decode(),
    ],
)
def test_who_may_post_events(stranger: httpx.Client, upload: Upload, authorization: str) -> None:
    answer = stranger.post(EVENTS, content=of_aws(upload()), headers={"authorization": authorization})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKENS[0]}x",
        f"Bearer {TOKENS[0]},{TOKENS[1]}",
        f"Token {TOKENS[0]}",
        "Basic",
        "Basic ?",
        "Basic " + base64.b64encode(TOKENS[0].encode()).decode(),
        "Basic " + base64.b64encode(f"{TOKENS[0]}:".encode()).decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        f"Basic {TOKENS[0]}",
        "Bearer é",
    ],
)
def test_who_may_not(stranger: httpx.Client, nothing_entered: None, authorization: str | None) -> None:
    headers = {} if authorization is None else {b"authorization": authorization.encode()}
    answer = stranger.post(EVENTS, content=b"{" * (BODY_BYTES + 1), headers=headers)  # type: ignore[arg-type]
    assert refused(answer) == (401, "unauthorized")  # its body was not read: that would be a 413
    assert answer.headers["www-authenticate"] == 'Bearer realm="warmline", Basic realm="warmline"'
    assert "WARMLINE_TRIGGERS_TOKENS" in answer.json()["detail"]


@pytest.mark.parametrize(
    "given", [f"Bearer {TOKENS[0]}", TOKENS[0], f"Basic {base64.b64encode(b':' + KEYS[0].encode()).decode()}"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/jobs"),
        ("GET", "/v1/jobs"),
        ("POST", f"{EVENTS}/"),
        ("POST", "/v1//events/s3"),
        ("POST", "/v1/events"),
        ("POST", "/V1/events/s3"),
        ("GET", f"/v1/jobs?x={EVENTS}"),
    ],
)
def test_a_token_opens_no_other_path(stranger: httpx.Client, given: str, method: str, path: str) -> None:
    assert refused(stranger.request(method, path, headers={"authorization": given})) == (401, "unauthorized")


@pytest.mark.parametrize("path", ["/v1/jobs", f"{EVENTS}/", "/v1/events/S3"])
def test_a_message_of_sns_opens_no_other_path(stranger: httpx.Client, path: str) -> None:
    answer = stranger.post(path, headers={"x-amz-sns-message-type": "Notification"})
    assert refused(answer) == (401, "unauthorized")


def test_a_method_that_is_not_post(sender: httpx.Client) -> None:
    # MinIO asks with HEAD whether somebody is there, and takes any answer for a yes.
    head = httpx.head(sender.base_url.join(EVENTS), headers=sender.headers, trust_env=False, timeout=60)
    for answer in (sender.get(EVENTS), sender.put(EVENTS), head):
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_tokens_are_in_no_answer_and_no_log(sender: httpx.Client, api: ApiProcess, upload: Upload) -> None:
    sender.post(EVENTS, content=of_aws(upload()))
    sender.post(EVENTS, content=b"{")
    assert not any(token in api.log.read_text() for token in TOKENS)


# Under load, and without what it needs


def test_many_events_do_not_keep_others_waiting(api: ApiProcess) -> None:
    body = records(*[record(Stored(key=f"demo/{n}.wav", content=b"x")) for n in range(900)])
    headers = {"Authorization": f"Bearer {TOKENS[0]}"}
    with ThreadPoolExecutor(8) as threads, httpx.Client(base_url=api.url, trust_env=False, timeout=60) as prober:
        posts = [
            threads.submit(
                httpx.post, f"{api.url}{EVENTS}", content=body, headers=headers, timeout=60, trust_env=False
            )
            for _ in range(24)
        ]
        waits = []
        while not all(post.done() for post in posts):
            started = time.perf_counter()
            assert prober.get("/live").status_code == 200
            waits.append(time.perf_counter() - started)
        assert {post.result().status_code for post in posts} == {202}
    assert sorted(waits)[len(waits) // 2] < 0.3
    assert max(waits) < 4


def test_what_may_pass_is_to_be_sent_again(
    tmp_path: Path, hold_to_openapi: Callable[[httpx.Response], None]
) -> None:
    # Given an API whose Redis and whose store are not there
    nowhere = S3Settings(endpoint_url=f"http://127.0.0.1:{choose_port()}", access_key="a", secret_key="b")
    stored = Stored(key="call.wav", content=b"x")
    with (
        running_api(tmp_path, f"redis://127.0.0.1:{choose_port()}/0", nowhere) as api,
        httpx.Client(
            base_url=api.url, timeout=60, trust_env=False, event_hooks={"response": [hold_to_openapi]}
        ) as sender,
    ):
        # When events come that need the one or the other, then their senders learn to come again
        for body, code in ((of_aws(stored), "ledger_unavailable"), (of_r2(stored), "store_unavailable")):
            answer = sender.post(EVENTS, content=body)
            assert refused(answer) == (503, code)
            assert int(answer.headers["retry-after"]) >= 1


def test_tokens_alone_close_the_path_and_a_full_backlog_says_when_to_come_again(
    tmp_path: Path,
    redis_url: str,
    s3_settings: S3Settings,
    upload: Upload,
    hold_to_openapi: Callable[[httpx.Response], None],
) -> None:
    with (
        running_api(
            tmp_path, redis_url, s3_settings, WARMLINE_TRIGGERS_TOKENS=TOKENS[0], WARMLINE_JOBS_MAX_BACKLOG="3"
        ) as api,
        httpx.Client(
            base_url=api.url, timeout=60, trust_env=False, event_hooks={"response": [hold_to_openapi]}
        ) as sender,
    ):
        assert sender.get("/v1/jobs").status_code == 200  # there are no keys
        assert refused(sender.post(EVENTS, content=of_aws(upload()))) == (401, "unauthorized")
        sender.headers["Authorization"] = f"Bearer {TOKENS[0]}"
        assert sender.post(EVENTS, content=of_aws(upload())).status_code == 202
        full = sender.post(EVENTS, content=records(*[record(upload(f"{n}.wav")) for n in range(20)]))
        assert refused(full) == (429, "backlog_full")
        assert int(full.headers["retry-after"]) >= 1
        # SNS is not used here: a stranger's message is refused before it is read
        headers = {"x-amz-sns-message-type": "Notification"}
        del sender.headers["Authorization"]
        answer = sender.post(EVENTS, content=b"{" * (BODY_BYTES + 1), headers=headers)
        assert refused(answer) == (403, "sns_topic_not_allowed")
        assert "WARMLINE_TRIGGERS_SNS_TOPICS" in answer.json()["detail"]


def test_without_keys_and_tokens_events_pass_and_sns_is_verified_all_the_same(
    tmp_path: Path, redis_url: str, s3_settings: S3Settings, upload: Upload, sns: SnsServer
) -> None:
    with (
        running_api(tmp_path, redis_url, s3_settings) as api,
        httpx.Client(base_url=api.url, trust_env=False, timeout=60) as anyone,
    ):
        stored = upload()
        message = body_of(sns.message(of_aws(stored).decode()))
        for headers in ({"x-amz-sns-message-type": "Notification"}, {}):
            assert refused(anyone.post(EVENTS, content=message, headers=headers)) == (403, "sns_topic_not_allowed")
        assert anyone.post(EVENTS, content=of_aws(stored)).json()["entered"] == 1
