"""One try, against a real receiver on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.settings import SettingsError, WebhooksSettings
from tests.sns_server import listening
from tests.webhook_receiver import SECRET, Receiver, make_authority, running_receiver
from warmline.webhooks.posting import READ_BYTES, Answer, make_receivers

BODY = '{"type":"webhook.test","timestamp":"2026-11-23T06:00:00Z","data":{}}'


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def settings(url: str, **more: object) -> WebhooksSettings:
    given = {"allow_private": True, "timeout_seconds": 20, **more}
    return WebhooksSettings.model_validate({"urls": (url,), "secrets": (SecretStr(SECRET),), **given})


def post(url: str, *, times: int = 1, **more: object) -> Answer:
    async def run() -> Answer:
        (receiver,) = make_receivers(settings(url, **more)).values()
        for _ in range(times):
            answer = await receiver.post("msg_1", BODY)
        await receiver.close()
        return answer

    return asyncio.run(run())


@contextmanager
def serving(answer: bytes, *, drip_seconds: float = 0.0, rest: bytes = b"") -> Iterator[str]:
    """A server that answers one request with these bytes, then byte by byte."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                try:
                    connection.sendall(answer)
                    for byte in rest:
                        if over.wait(drip_seconds):
                            return
                        connection.sendall(bytes([byte]))
                except OSError:
                    return  # the client has had enough

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        over.set()
        thread.join(60)


def test_what_arrives_is_signed_and_addressed_by_name(receiver: Receiver) -> None:
    answer = post(f"http://localhost:{receiver.port}/hook?token=x%20y")
    assert (answer.status_code, answer.error) == (200, None)
    taken = receiver.taken[-1]
    assert taken.event["type"] == "webhook.test"
    assert taken.path == "/hook?token=x%20y"
    assert taken.headers["host"] == f"localhost:{receiver.port}"
    assert taken.headers["content-type"] == "application/json"
    assert taken.headers["user-agent"].startswith("Warmline/")
    assert "cookie" not in taken.headers


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(receiver: Receiver, status: int) -> None:
    receiver.statuses.append(status)
    assert post(receiver.url).error is None


@pytest.mark.parametrize("status", [300, 400, 401, 404, 410, 429, 500, 503])
def test_anything_else_is_not(receiver: Receiver, status: int) -> None:
    receiver.statuses.append(status)
    answer = post(receiver.url)
    assert answer.status_code == status
    assert str(status) in (answer.error or "")


def test_redirects_are_not_followed_and_cookies_not_kept(receiver: Receiver) -> None:
    with listening() as elsewhere:
        receiver.headers = {"location": elsewhere.url, "set-cookie": "a=b", "retry-after": "77"}
        receiver.statuses += [302, 302]
        answer = post(receiver.url, times=2)
        receiver.headers = {}
    assert (answer.status_code, answer.retry_after_seconds) == (302, 77)
    assert "redirects are not followed" in (answer.error or "")
    assert elsewhere.heard == []
    assert "cookie" not in receiver.taken[-1].headers


def test_private_addresses_are_not_connected_to_unless_that_is_said() -> None:
    with listening() as own:
        for host in ("127.0.0.1", "localhost", "2130706433"):
            answer = post(f"https://{host}:{own.port}/", allow_private=False)
            assert answer.status_code is None
            assert "Nothing was posted" in (answer.error or "")
        assert own.heard == []


def test_the_address_that_was_checked_is_connected_to_and_the_name_is_not_asked_again(receiver: Receiver) -> None:
    # Given a host that no name server knows, so that whoever asked again would not come far
    url = f"http://renamed.invalid:{receiver.port}/hook"

    async def send() -> int:
        (made,) = make_receivers(settings(url)).values()
        response = await made._send(["127.0.0.1"], "msg_1", datetime.now(UTC), BODY)
        await response.aclose()
        await made.close()
        return response.status_code

    assert asyncio.run(send()) == 200
    assert receiver.taken[-1].headers["host"] == f"renamed.invalid:{receiver.port}"


def test_http_is_not_spoken_to_public_addresses() -> None:
    answer = post("http://8.8.8.8:9/")
    assert "public and not asked by https" in (answer.error or "")
    assert answer.seconds < 10  # nobody was asked


def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert post(receiver.url).error is None
    assert proxy.heard == []


def test_connections_are_used_again(receiver: Receiver) -> None:
    assert post(receiver.url, times=3).error is None


def test_a_receiver_that_says_nothing_or_too_slowly_has_so_long_in_all(receiver: Receiver) -> None:
    receiver.answers.clear()
    silent = post(receiver.url, timeout_seconds=0.3)
    receiver.answers.set()
    assert (silent.status_code, silent.error) == (None, "No answer within 0.3 s.")
    # each byte comes within the time, the head as a whole does not
    with serving(b"HTTP/1.1 200 OK\r\n", drip_seconds=0.1, rest=b"x-slow: " + b"y" * 150) as url:
        dripping = post(url, timeout_seconds=0.5)
    assert (dripping.status_code, dripping.error) == (None, "No answer within 0.5 s.")
    assert dripping.seconds < 10


def test_of_a_long_answer_the_beginning_is_read() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n"
    with serving(head + b"z" * 200_000, drip_seconds=60, rest=b"zz") as url:
        answer = post(url)
    assert (answer.status_code, answer.error) == (200, None)
    assert len(answer.body) == READ_BYTES


def test_compressed_answers_are_left_so() -> None:
    bomb = b"\x1f\x8b\x08" + b"\x00" * 50
    head = b"HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    with serving(head + bomb) as url:
        assert post(url).body == bomb


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"])
def test_what_is_no_http_is_a_sentence(answer: bytes) -> None:
    with serving(answer) as url:
        error = post(url).error
    assert error is not None
    assert error.startswith("The connection broke off")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert post(f"http://127.0.0.1:{port}/").error == "The connection was refused."


def test_tls_is_verified_against_the_name_though_the_address_is_connected_to(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, names=("localhost",))
    with running_receiver(authority.tls) as receiver:
        by_name, by_address = f"https://localhost:{receiver.port}/", f"https://127.0.0.1:{receiver.port}/"
        assert post(by_name, ca_file=str(authority.file)).error is None
        # by another name, and without knowing the authority
        wrong = post(by_address, ca_file=str(authority.file)).error or ""
        assert wrong.startswith("The certificate of 127.0.0.1 is not valid")
        assert (post(by_name).error or "").startswith("The certificate of localhost is not valid")
        assert len(receiver.taken) == 1


def test_an_authority_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("x")
    for name in ("none.pem", "bad.pem"):
        with pytest.raises(SettingsError, match="WARMLINE_WEBHOOKS_CA_FILE"):
            make_receivers(settings("https://localhost/", ca_file=str(tmp_path / name)))
