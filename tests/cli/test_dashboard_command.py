"""`warmline dashboard`: says where the page is, and gives the key to none but those who ask for it."""

from __future__ import annotations

from tests.cli.conftest import Warmline

HERE = {"WARMLINE_API_PORT": "8123", "WARMLINE_STACK_DATA_DIR": "/nowhere"}


def test_it_tells_the_address_and_not_the_key(warmline: Warmline) -> None:
    done = warmline("dashboard", "--no-browser", **HERE, WARMLINE_API_KEYS="secret-key,other-key")
    assert done.returncode == 0
    said = done.stdout + done.stderr
    assert "http://127.0.0.1:8123/dashboard" in said
    assert "asks for an API key" in said
    assert "secret-key" not in said


def test_the_key_is_printed_alone_when_it_is_asked_for(warmline: Warmline) -> None:
    assert (
        warmline("dashboard", "--key", **HERE, WARMLINE_API_KEYS="secret-key,other-key").stdout == "secret-key\n"
    )
    without = warmline("dashboard", "--key", **HERE)
    assert (without.returncode, without.stdout) == (2, "")
    assert "WARMLINE_API_KEYS" in without.stderr
