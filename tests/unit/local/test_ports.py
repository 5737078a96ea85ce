"""Which port a part gets when another program has its usual one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from config.settings import ApiSettings, FlowerSettings, MetricsSettings, Settings, StackSettings
from warmline.local.addresses import Addresses
from warmline.local.ports import choose_port, is_free


def settings(**ports: int) -> Settings:
    names = {name: choose_port() for name in ("valkey", "s3", "api", "flower", "worker")} | ports
    return Settings(
        stack=StackSettings(valkey_port=names["valkey"], s3_port=names["s3"]),
        api=ApiSettings(port=names["api"]),
        flower=FlowerSettings(port=names["flower"]),
        metrics=MetricsSettings(port=names["worker"]),
    )


def test_a_listening_port_is_not_free_and_a_port_out_of_range_neither() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)
    assert not is_free(0)
    assert not is_free(65_536)


def test_the_usual_port_is_taken_and_else_one_near_it() -> None:
    usual = choose_port(offsets=(0, 1))
    assert choose_port(usual) == usual
    with socket.create_server(("127.0.0.1", usual)):
        assert usual < choose_port(usual) < usual + 20
    assert choose_port(usual, taken={usual}) != usual


def test_companions_must_be_free_too() -> None:
    usual = choose_port(offsets=(0, 10_000))
    with socket.create_server(("127.0.0.1", usual + 10_000)):
        assert choose_port(usual, offsets=(0, 10_000)) != usual


def test_addresses_are_the_usual_ones_and_the_same_at_the_next_start(tmp_path: Path) -> None:
    wanted = settings()
    first = Addresses.keep(tmp_path / "ports.json", wanted)
    assert (first.valkey, first.s3.s3, first.api, first.flower, first.worker) == first.usual
    assert Addresses.keep(tmp_path / "ports.json", wanted) == first


def test_a_port_that_was_taken_once_is_replaced_for_good(tmp_path: Path) -> None:
    # Given a stack that had to take another port for its API
    wanted = settings()
    with socket.create_server(("127.0.0.1", wanted.api.port)):
        first = Addresses.keep(tmp_path / "ports.json", wanted)
    assert first.api != wanted.api.port
    # When the usual one is free again, then clients still find the API where it was
    assert Addresses.keep(tmp_path / "ports.json", wanted).api == first.api
    # But when the settings ask for another, then they get it
    other = wanted.model_copy(update={"api": ApiSettings(port=choose_port())})
    assert Addresses.keep(tmp_path / "ports.json", other).api == other.api.port


def test_parts_that_ask_for_one_port_each_get_one(tmp_path: Path) -> None:
    port = choose_port()
    chosen = Addresses.keep(tmp_path / "ports.json", settings(api=port, flower=port, valkey=port, worker=port))
    assert len({chosen.api, chosen.flower, chosen.valkey, chosen.worker}) == 4


def test_a_worker_that_is_to_serve_no_pages_gets_no_port(tmp_path: Path) -> None:
    assert Addresses.keep(tmp_path / "ports.json", settings(worker=0)).worker == 0


@pytest.mark.parametrize("content", ["", "{}", '{"usual": [1, 2, 3, 4]}'])
def test_a_broken_memory_of_ports_is_forgotten(tmp_path: Path, content: str) -> None:
    (tmp_path / "ports.json").write_text(content)
    wanted = settings()
    assert Addresses.keep(tmp_path / "ports.json", wanted).api == wanted.api.port
