"""Presigned uploads: what the API signs, plain HTTP without keys delivers, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from api.routers.uploads import UploadPlace
from config.settings import S3Settings, Settings, SettingsError, UploadsSettings
from tests.api_process import ApiProcess
from tests.servers import wait_until
from warmline.jobs.errors import InvalidRequest, ObjectForbidden
from warmline.jobs.records import Source
from warmline.objects.presign import Presigner
from warmline.objects.store import ObjectStore
from warmline.objects.upload_keys import MAX_NAME_BYTES, check_upload_key, new_upload_key

RECORDING = b"RIFF" + bytes(range(256)) * 16  # the store does not listen to it
SIZE = len(RECORDING)
TOO_LARGE = UploadsSettings().max_bytes + 1


@pytest.fixture(scope="module")
def stranger_of_the_store() -> Iterator[httpx.Client]:
    """Somebody with no keys at all."""
    with httpx.Client(timeout=60, trust_env=False) as made:
        yield made


def ask(client: httpx.Client, **body: Any) -> UploadPlace:
    answer = client.post("/v1/uploads", json={"name": "call.wav"} | body)
    assert answer.status_code == 201, answer.text
    return UploadPlace.model_validate(answer.json(), extra="forbid")


def put(client: httpx.Client, place: UploadPlace, content: bytes, **changed: str | None) -> httpx.Response:
    """Sends the PUT, with headers changed or, with None, left out."""
    headers = {name.lower(): value for name, value in place.headers.items()}
    headers["content-length"] = str(len(content))  # which no HTTP client leaves to its user
    headers |= {name.replace("_", "-"): value for name, value in changed.items() if value is not None}
    left_out = {name.replace("_", "-") for name, value in changed.items() if value is None}
    kept = {name: value for name, value in headers.items() if name not in left_out}
    return client.put(place.url, content=content, headers=kept)


def post(client: httpx.Client, place: UploadPlace, content: bytes, **changed: str) -> httpx.Response:
    fields = place.fields | {name.replace("_", "-"): value for name, value in changed.items()}
    return client.post(place.url, data=fields, files={"file": ("whatever.wav", content)})


def there(store: ObjectStore, place: UploadPlace, tmp_path: Path) -> bytes:
    """The content of what was uploaded."""
    path = tmp_path / "fetched"
    store.fetch(Source(bucket=place.bucket, key=place.key), path)
    return path.read_bytes()


def is_nowhere(store: ObjectStore, place: UploadPlace) -> bool:
    return not list(store.list_keys(place.bucket, place.key))


def test_a_put_delivers_without_keys(
    client: httpx.Client, stranger_of_the_store: httpx.Client, store: ObjectStore, tmp_path: Path
) -> None:
    place = ask(
        client, name="Anruf é 客.wav", size_bytes=SIZE, content_type="audio/wav", metadata={"campaign": "May 1st"}
    )
    assert (place.method, place.bucket, place.rule, place.max_bytes) == ("PUT", "calls", "default calls", SIZE)
    assert re.fullmatch(r"uploads/\d{4}/\d\d/\d\d/[0-9a-f]{32}/Anruf é 客\.wav", place.key)
    assert timedelta(seconds=890) < place.expires_at - datetime.now(UTC) <= timedelta(seconds=900)
    assert place.headers == {
        "Content-Length": str(SIZE), "Content-Type": "audio/wav", "If-None-Match": "*",
        "x-amz-meta-campaign": "May 1st",
    }  # fmt: skip
    assert place.fields == {}
    # When it is sent with any HTTP client
    assert stranger_of_the_store.put(place.url, content=RECORDING, headers=place.headers).status_code == 200
    # Then it is there as it was, and what was said of it
    assert there(store, place, tmp_path) == RECORDING
    seen = store.describe(Source(bucket=place.bucket, key=place.key))
    assert seen.metadata == {"campaign": "May 1st"}
    # and nobody replaces it
    again = stranger_of_the_store.put(place.url, content=b"x" * SIZE, headers=place.headers)
    assert again.status_code == 412
    assert there(store, place, tmp_path) == RECORDING


def test_a_put_that_is_not_the_signed_one_is_refused(
    client: httpx.Client, stranger_of_the_store: httpx.Client, store: ObjectStore
) -> None:
    place = ask(client, size_bytes=SIZE, content_type="audio/wav", metadata={"team": "red"})
    send = stranger_of_the_store

    def at(url: str) -> UploadPlace:
        assert url != place.url
        return place.model_copy(update={"url": url})

    refused = {
        "longer": put(send, place, RECORDING + b"x"),
        "shorter": put(send, place, RECORDING[:-1]),
        "another type": put(send, place, RECORDING, content_type="text/html"),
        "no type": put(send, place, RECORDING, content_type=None),
        "replacing": put(send, place, RECORDING, if_none_match=None),
        "other metadata": put(send, place, RECORDING, x_amz_meta_team="blue"),
        "no metadata": put(send, place, RECORDING, x_amz_meta_team=None),
        "more metadata": put(send, place, RECORDING, x_amz_meta_agent="eve"),
        "another key": put(send, at(place.url.replace("call.wav", "c4ll.wav")), RECORDING),
        "another bucket": put(send, at(place.url.replace("/calls/", "/reports/")), RECORDING),
        "a longer life": put(send, at(place.url.replace("Expires=900", "Expires=9000")), RECORDING),
        "unsigned": put(send, at(place.url.partition("?")[0]), RECORDING),
        "read": send.get(place.url),
        "deleted": send.delete(place.url),
    }  # fmt: skip
    assert {name: answer.status_code for name, answer in refused.items()} == dict.fromkeys(refused, 403)
    assert send.post(place.url, content=RECORDING, headers=place.headers).is_error
    assert is_nowhere(store, place)
    # It is the changes that were refused
    assert put(send, place, RECORDING).status_code == 200
    assert send.get(place.url).status_code == 403


def test_a_post_delivers_without_keys(
    client: httpx.Client, stranger_of_the_store: httpx.Client, store: ObjectStore, tmp_path: Path
) -> None:
    place = ask(client, method="post", size_bytes=SIZE, content_type="audio/wav", metadata={"campaign": "May 1st"})
    assert (place.method, place.headers, place.max_bytes) == ("POST", {}, SIZE)
    assert post(stranger_of_the_store, place, RECORDING[:-1]).status_code == 204
    assert there(store, place, tmp_path) == RECORDING[:-1]
    assert store.describe(Source(bucket=place.bucket, key=place.key)).metadata == {"campaign": "May 1st"}


def test_a_post_that_is_not_the_signed_one_is_refused(
    client: httpx.Client, stranger_of_the_store: httpx.Client, store: ObjectStore
) -> None:
    place = ask(client, method="post", size_bytes=SIZE, content_type="audio/wav", metadata={"team": "red"})
    send = stranger_of_the_store
    answers = {
        "too large": post(send, place, RECORDING + b"x"),
        "empty": post(send, place, b""),
        "another type": post(send, place, RECORDING, Content_Type="text/html"),
        "other metadata": post(send, place, RECORDING, x_amz_meta_team="blue"),
        "more metadata": post(send, place, RECORDING, x_amz_meta_agent="eve"),
        "another key": post(send, place, RECORDING, key=f"{place.key}.wav"),
        "another policy": post(send, place, RECORDING, policy=place.fields["policy"][:-4]),
        "as a PUT": send.put(f"{place.url}/{place.key}", content=RECORDING),
    }
    assert {name: answer.status_code for name, answer in answers.items()} == {
        **dict.fromkeys(answers, 403), "too large": 400, "empty": 400,
    }  # fmt: skip
    assert is_nowhere(store, place)
    assert post(send, place, RECORDING).status_code == 204


def test_what_expired_is_refused(
    client: httpx.Client, stranger_of_the_store: httpx.Client, store: ObjectStore
) -> None:
    placed = ask(client, size_bytes=SIZE, expires_seconds=1)
    formed = ask(client, method="post", expires_seconds=1)
    assert placed.expires_at - datetime.now(UTC) <= timedelta(seconds=1)
    # A store counts whole seconds, from the beginning of the one in which it was signed
    late = formed.expires_at + timedelta(seconds=1)
    wait_until(lambda: datetime.now(UTC) > late, "two seconds are over", interval_seconds=0.1)
    assert put(stranger_of_the_store, placed, RECORDING).status_code == 403
    assert post(stranger_of_the_store, formed, RECORDING).status_code == 403
    assert is_nowhere(store, placed)
    assert is_nowhere(store, formed)


def test_a_key_of_one_s_own_and_the_rule_that_takes_it(
    client: httpx.Client, stranger_of_the_store: httpx.Client, s3_prefix: str, store: ObjectStore, tmp_path: Path
) -> None:
    own = {"name": None, "key": f"uploads/{s3_prefix}mia_sales_4711.wav", "size_bytes": SIZE}
    place = ask(client, **own)
    assert (place.key, place.rule) == (own["key"], "default calls")
    assert put(stranger_of_the_store, place, RECORDING).status_code == 200
    assert there(store, place, tmp_path) == RECORDING
    # What no rule wants can be stored, and the answer says that nothing comes of it
    assert ask(client, name="notes.pdf", size_bytes=1).rule is None


def test_the_limit_is_the_settings_where_a_form_has_no_size(client: httpx.Client) -> None:
    assert ask(client, method="post").max_bytes == UploadsSettings().max_bytes


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        ({"bucket": "payroll"}, 403, "bucket_not_allowed", "payroll"),
        ({"size_bytes": TOO_LARGE}, 413, "object_too_large", "WARMLINE_UPLOADS_MAX_BYTES"),
        ({"method": "post", "size_bytes": TOO_LARGE}, 413, "object_too_large", "WARMLINE_UPLOADS_MAX_BYTES"),
        ({"expires_seconds": 901}, 422, "invalid_request", "WARMLINE_UPLOADS_EXPIRES_SECONDS allows 900"),
        ({"expires_seconds": 0}, 422, "invalid_request", "greater than or equal to 1"),
        ({"size_bytes": 0}, 422, "invalid_request", "greater than 0"),
        ({"size_bytes": None}, 422, "invalid_request", "a PUT is signed for one size"),
        ({"name": None}, 422, "invalid_request", "give one of: name, key"),
        ({"key": "uploads/x.wav"}, 422, "invalid_request", "give one of: name, key"),
        ({"name": ""}, 422, "invalid_request", "at least 1 character"),
        ({"method": "delete"}, 422, "invalid_request", "'put' or 'post'"),
        ({"content_type": "text/html"}, 422, "invalid_request", "a recording is audio/*"),
        ({"content_type": "audio/wav\r\nx-evil: 1"}, 422, "invalid_request", "a recording is audio/*"),
        ({"metadata": {"Campaign": "x"}}, 422, "invalid_request", "no name for a header"),
        ({"metadata": {"a b": "x"}}, 422, "invalid_request", "no name for a header"),
        ({"metadata": {"campaign": "Mai é"}}, 422, "invalid_request", "not printable ASCII"),
        ({"metadata": {"campaign": "x\r\ny: z"}}, 422, "invalid_request", "not printable ASCII"),
        ({"metadata": {"campaign": " x"}}, 422, "invalid_request", "not printable ASCII"),
        ({"metadata": {"campaign": ""}}, 422, "invalid_request", "not printable ASCII"),
        ({"metadata": {"campaign": "x" * 2041}}, 422, "invalid_request", "more than 2,048 bytes"),
        ({"metadata": {f"n{number}": "x" for number in range(33)}}, 422, "invalid_request", "at most 32"),
        ({"what": 1}, 422, "invalid_request", "Extra inputs"),
    ],
)  # fmt: skip
def test_what_cannot_be_signed_is_a_problem(
    client: httpx.Client, body: dict[str, Any], status: int, code: str, said: str
) -> None:
    answer = client.post("/v1/uploads", json={"name": "call.wav", "size_bytes": SIZE} | body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    "key",
    [
        "call.wav",
        "uploads/",
        "uploads",
        "uploads/../secret/call.wav",
        "uploads/./call.wav",
        "uploads//call.wav",
        "uploads/call.wav/",
        "uploads/a\x00b.wav",
        "uploads/a\nb.wav",
        "uploads/${filename}",
        f"uploads/{'é' * 509}",
    ],
)
def test_a_key_that_leads_elsewhere_is_refused(client: httpx.Client, key: str) -> None:
    answer = client.post("/v1/uploads", json={"key": key, "size_bytes": 1})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_key_where_reports_are_written_is_refused() -> None:
    s3 = S3Settings(results_bucket="calls", results_prefix="uploads/reports/")
    settings = Settings(s3=s3)
    check_upload_key(Source(bucket="calls", key="uploads/x.wav"), settings)
    with pytest.raises(InvalidRequest, match=r"reports are written: s3://calls/uploads/reports/"):
        check_upload_key(Source(bucket="calls", key="uploads/reports/x.wav"), settings)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("call.wav", "call.wav"),
        ("../../etc/passwd", "passwd"),
        ("C:\\calls\\May 1.wav", "May 1.wav"),
        ("Anruf é नमस्ते 客.wav", "Anruf é नमस्ते 客.wav"),
        ("a\x00b\n$`\"'<>|*?{}.wav", "a_b____________.wav"),
        ("..", "call"),
        ("/", "call"),
        (" .hidden. ", "hidden"),
        ("x" * 300 + ".flac", "x" * (MAX_NAME_BYTES - 5) + ".flac"),
        ("é" * 300, "é" * (MAX_NAME_BYTES // 2)),
    ],
)
def test_a_new_key_ends_with_the_file_s_name_and_no_path(name: str, kept: str) -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    one, other = new_upload_key("uploads/", name, at), new_upload_key("uploads/", name, at)
    assert one != other
    assert re.fullmatch(r"uploads/2026/05/01/[0-9a-f]{32}/" + re.escape(kept), one)
    check_upload_key(Source(bucket="calls", key=one), Settings())


def test_a_key_is_needed(stranger: httpx.Client) -> None:
    assert stranger.post("/v1/uploads", json={"name": "call.wav", "size_bytes": 1}).status_code == 401


def test_no_log_has_a_signature(api: ApiProcess, client: httpx.Client, s3_settings: S3Settings) -> None:
    place = ask(client, size_bytes=SIZE)
    formed = ask(client, method="post")
    log = api.log.read_text()
    assert f'"uri": "s3://calls/{place.key}"' in log
    signature = re.search(r"X-Amz-Signature=(\w+)", place.url)
    assert signature
    for secret in (
        signature[1],
        formed.fields["x-amz-signature"],
        formed.fields["policy"],
        s3_settings.access_key.get_secret_value(),
        s3_settings.secret_key.get_secret_value(),
    ):
        assert secret not in log


def test_what_is_signed_is_signed_for_the_store_s_public_address(
    s3_settings: S3Settings, stranger_of_the_store: httpx.Client, s3_prefix: str
) -> None:
    # Given a store that the API reaches at one address and those who upload at another
    public = s3_settings.endpoint_url.replace("127.0.0.1", "localhost")
    inside = s3_settings.model_copy(update={"endpoint_url": "http://store.internal:1", "public_url": public})
    presigner = Presigner(inside)
    source = Source(bucket="calls", key=f"uploads/{s3_prefix}call.wav")
    asked: dict[str, Any] = {"content_type": None, "metadata": {}, "expires_seconds": 60}
    placed = presigner.put(source, size_bytes=SIZE, **asked)
    formed = presigner.post(source, max_bytes=SIZE, **asked)
    assert placed.url.startswith(f"{public}/calls/uploads/")
    assert formed.url == f"{public}/calls"
    assert stranger_of_the_store.put(placed.url, content=RECORDING, headers=placed.headers).status_code == 200
    assert "Signature" not in repr(placed)
    assert "policy" not in repr(formed)


@pytest.mark.parametrize(
    "url",
    ["store.example.com", "ftp://store", "https://", "https://a:b@store", "https://store/?x=1", "http://[::1"],
)
def test_a_public_address_that_is_none_is_refused_at_start(url: str) -> None:
    with pytest.raises(SettingsError, match="WARMLINE_S3_PUBLIC_URL is no address of a store"):
        Presigner(S3Settings(public_url=url))
    Presigner(S3Settings(public_url="https://store.example.com:9000/s3"))


@pytest.mark.parametrize("bucket", ["calls", "calls.example.com"])
def test_at_aws_the_region_s_own_address_is_signed(bucket: str) -> None:
    settings = S3Settings(region="eu-central-1", access_key=SecretStr("AK"), secret_key=SecretStr("SK"))
    presigner = Presigner(settings)
    source = Source(bucket=bucket, key="uploads/call.wav")
    asked: dict[str, Any] = {"content_type": None, "metadata": {}, "expires_seconds": 60}
    url = presigner.put(source, size_bytes=1, **asked).url
    assert url.startswith(f"https://s3.eu-central-1.amazonaws.com/{bucket}/uploads/call.wav?")
    assert "checksum" not in url.lower()  # of an empty body, which the uploader's is not
    assert presigner.post(source, max_bytes=1, **asked).url == url.partition("/uploads/")[0]


def test_without_credentials_nothing_is_signed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    presigner = Presigner(S3Settings(endpoint_url="http://127.0.0.1:1"))
    source = Source(bucket="calls", key="uploads/call.wav")
    asked: dict[str, Any] = {"content_type": None, "metadata": {}, "expires_seconds": 60}
    with pytest.raises(ObjectForbidden):
        presigner.put(source, size_bytes=1, **asked)
    with pytest.raises(ObjectForbidden):
        presigner.post(source, max_bytes=1, **asked)
