"""A worker's pages, over HTTP."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus

import httpx
import pytest
from pydantic import SecretStr

from config.settings import MetricsSettings, SettingsError
from tests.ports import choose_port
from tests.servers import wait_until
from workers.probes import Answer, Probes, metrics_page


def broken() -> Answer:
    raise RuntimeError("secret of a traceback")


PAGES = {
    "/live": lambda: Answer(body=b"{}"),
    "/ready": lambda: Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, body=b"no"),
    "/metrics": metrics_page(lambda: b"a 1\n"),
    "/broken": broken,
}


@pytest.fixture
def settings() -> MetricsSettings:
    return MetricsSettings(port=choose_port(), token=SecretStr("token"))


@pytest.fixture
def probes(settings: MetricsSettings) -> Iterator[Probes]:
    probes = Probes(settings, PAGES)
    yield probes
    probes.stop()


def get(settings: MetricsSettings, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{settings.port}{path}", headers=headers, trust_env=False, timeout=60)


def is_served(settings: MetricsSettings) -> bool:
    try:
        return get(settings, "/live").is_success
    except httpx.TransportError:
        return False


def test_each_page_answers_by_its_path(settings: MetricsSettings, probes: Probes) -> None:
    probes.start()
    wait_until(lambda: is_served(settings), "it is served")
    assert [get(settings, path).status_code for path in ("/live?x=1", "/ready", "/elsewhere")] == [200, 503, 404]
    assert get(settings, "/metrics", Authorization="bearer token").text == "a 1\n"
    for wrong in ({}, {"Authorization": "token"}, {"Authorization": "Basic token"}, {"Authorization": "Bearer x"}):
        assert get(settings, "/metrics", **wrong).status_code == 401
    crashed = get(settings, "/broken")
    assert crashed.status_code == 500
    assert "secret" not in crashed.text


def test_a_port_that_gets_free_is_taken(
    settings: MetricsSettings, probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.probes.BIND_AGAIN_SECONDS", 0.05)
    with closing(socket.create_server(("127.0.0.1", settings.port))):
        probes.start()
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{settings.port}/live", timeout=0.3, trust_env=False)
    wait_until(lambda: is_served(settings), "it is served after all")


def test_a_child_that_outlives_its_parent_does_not_hold_the_port(
    settings: MetricsSettings, probes: Probes
) -> None:
    # Given a child that was forked while the pages were served
    probes.start()
    wait_until(lambda: is_served(settings), "it is served")
    end, hold = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(hold)
        os.read(end, 1)
        os._exit(0)
    # When the parent does not serve any more
    probes.stop()
    # Then the port is free, and not the child's
    try:
        socket.create_server(("127.0.0.1", settings.port)).close()
    finally:
        os.close(hold)
        os.waitpid(pid, 0)


def test_it_stops_before_it_has_served(settings: MetricsSettings, probes: Probes) -> None:
    probes.start()
    probes.stop()
    assert not is_served(settings)


def test_no_port_no_pages() -> None:
    probes = Probes(MetricsSettings(port=0), PAGES)
    probes.start()
    assert "probes" not in {thread.name for thread in threading.enumerate()}
    probes.stop()


def test_other_machines_need_a_token() -> None:
    with pytest.raises(SettingsError, match="WARMLINE_METRICS_TOKEN"):
        Probes(MetricsSettings(host="0.0.0.0"), PAGES)  # noqa: S104
    Probes(MetricsSettings(host="0.0.0.0", token=SecretStr("token")), PAGES)  # noqa: S104
    Probes(MetricsSettings(host="0.0.0.0", port=0), PAGES)  # noqa: S104
