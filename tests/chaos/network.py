"""Several hosts on one machine: network namespaces, and a link to each that can be cut and mended."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

IP = shutil.which("ip")


@dataclass(frozen=True, kw_only=True)
class OtherHost:
    """Processes started with `prefix` are on another host, which reaches this one at `address`."""

    namespace: str
    link: str  # this end of it
    address: str

    @property
    def prefix(self) -> Sequence[str]:
        """Put before a command."""
        # With a name of its own: workers of one name take those for their own that died before them.
        named = (
            "unshare",
            "--uts",
            "sh",
            "-c",
            'echo "$0" > /proc/sys/kernel/hostname && exec "$@"',
            self.namespace,
        )
        return (IP or "ip", "netns", "exec", self.namespace, *named)

    def cut(self) -> None:
        """From now on nothing goes through, and nobody is told: packets are lost."""
        _ip("link", "set", self.link, "down")

    def mend(self) -> None:
        """The link works again."""
        _ip("link", "set", self.link, "up")


@contextmanager
def other_host() -> Iterator[OtherHost]:
    """Another host while the block lasts. Skips the test where the kernel grants no namespaces."""
    with other_hosts(1) as (host,):
        yield host


@contextmanager
def other_hosts(count: int) -> Iterator[list[OtherHost]]:
    """So many; all reach this one at the same address, and none another. Skips as above."""
    if os.geteuid() != 0 or IP is None:
        pytest.skip("two hosts need root and the command `ip` (iproute2)")
    # 198.18.0.0/15 is set aside for tests of networks (RFC 2544). This address is of no link, so that this host
    # reaches it while links are cut.
    address = f"198.19.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"
    with ExitStack() as stack:
        stack.callback(_ip_or_not, "address", "delete", f"{address}/32", "dev", "lo")
        first = secrets.randbelow(256)
        hosts = [stack.enter_context(_host(address, f"198.18.{(first + n) % 256}")) for n in range(count)]
        _ip("address", "add", f"{address}/32", "dev", "lo")
        yield hosts


@contextmanager
def _host(address: str, net: str) -> Iterator[OtherHost]:
    token = secrets.token_hex(3)
    namespace, near, far = f"warmline-{token}", f"wl{token}a", f"wl{token}b"
    try:
        try:
            _ip("netns", "add", namespace)
            _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", namespace)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"the kernel grants no network namespaces here: {error.stderr.strip()}")
        _ip("address", "add", f"{net}.1/24", "dev", near)
        _ip("link", "set", near, "up")
        for words in (
            ("address", "add", f"{net}.2/24", "dev", far),
            ("link", "set", far, "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", f"{address}/32", "via", f"{net}.1"),
        ):
            _ip("-n", namespace, *words)
        yield OtherHost(namespace=namespace, link=near, address=address)
    finally:
        _ip_or_not("link", "delete", near)
        _ip_or_not("netns", "delete", namespace)


def _ip_or_not(*words: str) -> None:
    subprocess.run([IP or "ip", *words], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run([IP or "ip", *words], check=True, capture_output=True, text=True)
