"""Every way to be refused: a problem document with a stable code, and never a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import api.app  # noqa: F401 - with it come all errors that the API can answer with
from api.problems import STATUS_BY_ERROR, status_of
from tests.api_process import ApiProcess
from tests.contract.api.conftest import KEYS, MAX_BODY_BYTES
from warmline.jobs.errors import BacklogFull, IdempotencyKeyInUse, TransientError, WarmlineError

SOURCE = {"bucket": "calls", "key": "a.wav"}
NOBODY = "0" * 32


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def post(client: httpx.Client, path: str, body: Any) -> httpx.Response:
    """As JSON even where the body is null, of which httpx makes no body."""
    return client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})


# The table


def error_tree(root: type[WarmlineError]) -> Iterator[type[WarmlineError]]:
    yield root
    for child in root.__subclasses__():
        yield from error_tree(child)


def test_every_error_has_a_status_that_fits_its_root() -> None:
    for error in error_tree(WarmlineError):
        status = status_of(error)
        assert status >= 400
        if issubclass(error, TransientError):
            expected = {BacklogFull: 429, IdempotencyKeyInUse: 409}.get(error, 503)  # what may pass: come back
            assert status == expected, error


def test_the_table_has_no_status_for_an_error_that_is_gone() -> None:
    assert set(STATUS_BY_ERROR) <= set(error_tree(WarmlineError))


def test_codes_are_unique() -> None:
    codes = [error.code for error in error_tree(WarmlineError) if "code" in vars(error)]
    assert sorted(set(codes)) == sorted(codes)


# Requests that are not valid


@pytest.mark.parametrize(
    ("body", "location"),
    [
        ({}, "body.source"),
        ({"source": {"bucket": "calls"}}, "body.source.key"),
        ({"source": {"bucket": "calls", "key": ""}}, "body.source.key"),
        ({"source": {"bucket": "calls", "key": "客" * 342}}, "body.source.key"),
        ({"source": {"bucket": "calls", "key": "a\x00b"}}, "body.source.key"),
        ({"source": {"bucket": "Not A Bucket", "key": "a"}}, "body.source.bucket"),
        ({"source": SOURCE | {"version_id": ""}}, "body.source.version_id"),
        ({"source": SOURCE, "lane": "fast"}, "body.lane"),
        ({"source": SOURCE, "options": {"granularity": "word"}}, "body.options.granularity"),
        ({"source": SOURCE, "options": {"roles": ["Not a role"]}}, "body.options.roles.0"),
        ({"source": SOURCE, "metadata": {"a": "x" * 1025}}, "body.metadata.a"),
        ({"source": SOURCE, "metadata": {str(n): "x" for n in range(33)}}, "body.metadata"),
        ({"source": SOURCE, "metadata": {"a": 1}}, "body.metadata.a"),
        ({"source": SOURCE, "prioriti": 1}, "body.prioriti"),
        ({"source": SOURCE | {"verson_id": "1"}}, "body.source.verson_id"),
        ({"source": SOURCE, "options": {"granularty": "frame"}}, "body.options.granularty"),
        (
            {"source": SOURCE, "options": {"exclude": [{"start_seconds": 0, "end_seconds": 1, "x": 1}]}},
            "body.options.exclude.0.x",
        ),
        ([], "body"),
        (None, "body"),
    ],
)
def test_a_job_that_is_not_valid_is_told_where(client: httpx.Client, body: Any, location: str) -> None:
    answer = post(client, "/v1/jobs", body)
    assert refused(answer) == (422, "invalid_request")
    assert [fault["location"] for fault in answer.json()["errors"]] == [location]
    assert answer.json()["detail"].startswith(f"The request is not valid: {location}: ")


def test_an_id_that_was_cut_short_is_told_of_in_words(client: httpx.Client) -> None:
    answer = client.get("/v1/jobs/2c019ffe")
    assert refused(answer) == (422, "invalid_request")
    assert answer.json()["detail"] == (
        "The request is not valid: path.job_id: an id has 32 digits, 0 to 9 and a to f."
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"bucket": "calls"},
        {"keys": ["a"]},
        {"prefix": "a"},
        {"bucket": "calls", "keys": []},
        {"bucket": "calls", "keys": ["a"], "prefix": "b"},
        {"bucket": "calls", "jobs": [{"source": SOURCE}]},
        {"jobs": []},
        {"jobs": [{"source": SOURCE, "option": {}}]},
        {"jobs": [{"source": SOURCE, "options": {"granularty": "frame"}}]},
        {"bucket": "calls", "prefix": "x" * 1025},
        {"bucket": "calls", "prefix": "a\x00"},
        {
            "jobs": [{"source": SOURCE, "metadata": {f"a{n}": "" for n in range(20)}}],
            "metadata": {f"b{n}": "" for n in range(20)},
        },
    ],
)
def test_a_batch_that_is_not_valid(client: httpx.Client, body: Any) -> None:
    assert refused(client.post("/v1/batches", json=body)) == (422, "invalid_request")


def test_the_faults_of_a_request_are_named_up_to_a_number(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", json={"source": SOURCE} | {f"x{n}": 1 for n in range(500)})
    assert refused(answer) == (422, "invalid_request")
    assert len(answer.json()["errors"]) == 20
    assert "(and 499 more)" in answer.json()["detail"]


def test_the_first_bad_key_of_many_ends_the_reading(client: httpx.Client) -> None:
    answer = client.post("/v1/batches", json={"bucket": "calls", "keys": ["a", *[""] * 500]})
    assert refused(answer) == (422, "invalid_request")
    assert [fault["location"] for fault in answer.json()["errors"]] == ["body.keys.1"]


def test_a_value_is_not_echoed(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", json={"source": SOURCE, "metadata": {"a": ["4111-1111-1111-1111"]}})
    assert refused(answer) == (422, "invalid_request")
    assert "4111" not in answer.text


@pytest.mark.parametrize(
    ("content", "content_type", "expected"),
    [
        (b"{", "application/json", (422, "invalid_request")),
        (b"", "application/json", (422, "invalid_request")),
        (b"\xff\xfe", "application/json", (422, "invalid_request")),
        (b"[" * 10_000, "application/json", (422, "invalid_request")),
        (b'{"source": {"bucket": "calls", "key": "\\ud800"}}', "application/json", (422, "invalid_request")),
        (b'{"source": {"bucket": "calls", "key": "a"}}', "text/plain", (415, "not_json")),
        (b"a=b", "application/x-www-form-urlencoded", (415, "not_json")),
    ],
    ids=["broken", "empty", "not utf-8", "deep", "lone surrogate", "text", "form"],
)
def test_a_body_that_is_not_json(
    client: httpx.Client, content: bytes, content_type: str, expected: tuple[int, str]
) -> None:
    answer = client.post("/v1/jobs", content=content, headers={"content-type": content_type})
    assert refused(answer) == expected


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("times", [2, 50])
def test_a_body_over_the_limit(client: httpx.Client, chunked: bool, times: int) -> None:
    size = MAX_BODY_BYTES * times
    content: Any = (b"x" * 1000 for _ in range(size // 1000)) if chunked else b"x" * size
    try:
        answer = client.post("/v1/batches", content=content, headers={"content-type": "application/json"})
    except httpx.WriteError:
        assert times > 4, "a body not far over the limit is heard to its end, so that the answer can be read"
        return
    assert refused(answer) == (413, "body_too_large")
    assert "WARMLINE_API_MAX_BODY_BYTES" in answer.json()["detail"]


def test_a_body_at_the_limit_is_taken(client: httpx.Client) -> None:
    body = b'{"source": {"bucket": "calls", "key": "a.wav"}}'
    padded = body + b" " * (MAX_BODY_BYTES - len(body))
    answer = client.post("/v1/jobs", content=padded, headers={"content-type": "application/json"})
    assert answer.status_code == 202


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches"])
def test_a_bucket_that_is_not_allowed(client: httpx.Client, path: str) -> None:
    body = (
        {"source": SOURCE | {"bucket": "payroll"}} if path == "/v1/jobs" else {"bucket": "payroll", "prefix": ""}
    )
    answer = client.post(path, json=body)
    assert refused(answer) == (403, "bucket_not_allowed")
    assert "payroll" in answer.json()["detail"]


# Addresses


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"/v1/jobs/{NOBODY}", "job_not_found"),
        (f"/v1/jobs/{NOBODY}/report", "job_not_found"),
        (f"/v1/jobs?before={NOBODY}", "job_not_found"),
        (f"/v1/batches/{NOBODY}", "batch_not_found"),
        (f"/v1/batches/{NOBODY}/jobs", "batch_not_found"),
        (f"/v1/dead-letters?batch_id={NOBODY}", "batch_not_found"),
        ("/nothing", "route_not_found"),
        ("/v1", "route_not_found"),
        ("/v1/jobs/", "route_not_found"),
        ("/docs", "route_not_found"),
        ("/v1/nothing%00%0a客", "route_not_found"),
    ],
)
def test_what_is_not_there(client: httpx.Client, path: str, code: str) -> None:
    answer = client.get(path)
    assert refused(answer) == (404, code)
    assert answer.json()["instance"].isascii()


@pytest.mark.parametrize("id_", ["1", "A" * 32, "g" * 32, "0" * 33, "0" * 31 + "\n", "*", "..%2f" * 3, "0" * 5000])
def test_an_id_that_is_none(client: httpx.Client, id_: str) -> None:
    for path in ("/v1/jobs/{}", "/v1/batches/{}", "/v1/batches/{}/jobs"):
        answer = client.get(path.format(httpx.QueryParams({"": id_}).__str__()[1:].replace("%2F", "%252F")))
        assert refused(answer) in {(422, "invalid_request"), (404, "route_not_found")}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "status=done", "before=1"])
@pytest.mark.parametrize("path", ["/v1/jobs", f"/v1/batches/{NOBODY}/jobs"])
def test_a_query_that_is_not_valid(client: httpx.Client, path: str, query: str) -> None:
    answer = client.get(f"{path}?{query}")
    assert refused(answer) == (422, "invalid_request")
    assert answer.json()["errors"][0]["location"] == f"query.{query.partition('=')[0]}"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/jobs", "GET, POST"),
        ("PUT", f"/v1/jobs/{NOBODY}", "GET"),
        ("GET", f"/v1/jobs/{NOBODY}/cancel", "POST"),
        ("POST", "/v1/dead-letters", "DELETE, GET"),
        ("PATCH", "/v1/batches", "GET, POST"),
        ("POST", "/health", "GET"),
    ],
)
def test_a_method_that_is_not_allowed_names_those_that_are(
    client: httpx.Client, method: str, path: str, allow: str
) -> None:
    answer = client.request(method, path)
    assert refused(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allow


# Keys


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", f"Basic {KEYS[0]}", KEYS[0], f"Bearer {KEYS[0]}x", "Bearer é"],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/jobs"), ("GET", "/v1/batches"), ("GET", "/nothing")])
def test_without_a_key_nobody_gets_in(
    stranger: httpx.Client, authorization: str | None, method: str, path: str
) -> None:
    headers = {} if authorization is None else {b"authorization": authorization.encode()}
    answer = stranger.request(method, path, headers=headers)  # type: ignore[arg-type]
    assert refused(answer) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == 'Bearer realm="warmline"'


@pytest.mark.parametrize("authorization", [f"Bearer {KEYS[0]}", f"Bearer {KEYS[1]}", f"bearer  {KEYS[1]}"])
def test_every_key_opens(stranger: httpx.Client, authorization: str) -> None:
    assert stranger.get("/v1/jobs", headers={"authorization": authorization}).status_code == 200


def test_a_stranger_s_body_is_not_read(stranger: httpx.Client) -> None:
    answer = stranger.post("/v1/jobs", content=b"{" * (MAX_BODY_BYTES + 1))
    assert refused(answer) == (401, "unauthorized")


@pytest.mark.parametrize("path", ["/live", "/ready", "/health", "/openapi.json"])
def test_probes_and_the_description_need_no_key(stranger: httpx.Client, path: str) -> None:
    assert stranger.get(path).status_code in {200, 503}


def test_keys_are_in_no_answer_and_no_log(client: httpx.Client, api: ApiProcess) -> None:
    client.post("/v1/jobs", json={"source": SOURCE, "x": 1})
    assert not any(key in api.log.read_text() for key in KEYS)


# Request ids


def test_a_request_id_is_kept_where_it_is_safe(client: httpx.Client) -> None:
    assert client.get("/live", headers={"x-request-id": "trace-1.a_b"}).headers["x-request-id"] == "trace-1.a_b"
    made = client.get("/live", headers={"x-request-id": "<script>"}).headers["x-request-id"]
    assert len(made) == 32


# Whatever comes


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
sources = st.fixed_dictionaries(
    {"bucket": st.sampled_from(["calls", "payroll", ""]) | json_values, "key": st.text(max_size=30) | json_values},
    optional={"version_id": json_values},
)
jobs = st.fixed_dictionaries(
    {"source": sources},
    optional={
        "options": st.fixed_dictionaries({}, optional={"granularity": json_values, "roles": json_values}),
        "metadata": st.dictionaries(st.text(max_size=70), st.text(max_size=10), max_size=3) | json_values,
        "lane": st.sampled_from(["live", "bulk"]) | json_values,
    },
)
batches = st.fixed_dictionaries(
    {},
    optional={
        "jobs": st.lists(jobs, max_size=2) | json_values,
        "bucket": st.sampled_from(["calls", "payroll"]) | json_values,
        "keys": st.lists(st.text(max_size=10), max_size=3) | json_values,
        "metadata": json_values,
    },
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(request=st.tuples(st.just("/v1/jobs"), jobs | json_values) | st.tuples(st.just("/v1/batches"), batches))
def test_whatever_is_posted_is_accepted_or_refused_in_form(client: httpx.Client, request: Any) -> None:
    path, body = request
    answer = post(client, path, body)  # the client checks the form
    assert answer.status_code in {202, 403, 422}


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    path=st.sampled_from(["/v1/jobs", "/v1/batches", f"/v1/batches/{NOBODY}/jobs"]),
    query=st.dictionaries(st.sampled_from(["limit", "status", "before"]), st.text(max_size=12), max_size=3),
)
def test_whatever_is_queried_is_answered_in_form(client: httpx.Client, path: str, query: dict[str, str]) -> None:
    assert client.get(path, params=query).status_code in {200, 404, 422}
