# ruff: noqa: S104 - these are looked at, not bound
"""Where events are never posted to, however the address is written."""

from __future__ import annotations

import asyncio

import pytest

from warmline.webhooks.addresses import AddressRefused, HostUnknown, is_allowed, resolve

PUBLIC = ["8.8.8.8", "2606:4700::1111", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"]
OWN = [
    "127.0.0.1", "127.255.0.3", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "100.127.255.255", "::1", "fc00::1", "fd12:3456::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::1",
]  # fmt: skip
NEVER = [
    "0.0.0.0", "0.1.2.3", "169.254.0.1", "169.254.169.254", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1",
    "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    "ff0e::1", "2001:db8::1", "2001::1", "2001:0:5ef5:79fd::1", "3fff::1", "64:ff9b:1::1", "::127.0.0.1", "100::1",
    "::ffff:169.254.169.254", "::ffff:0.0.0.0", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "5f00::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed_by_https_alone(address: str) -> None:
    assert is_allowed(address, allow_private=False)
    assert is_allowed(address, allow_private=True)
    assert not is_allowed(address, allow_private=True, encrypted=False)


@pytest.mark.parametrize("address", OWN)
def test_those_of_one_s_own_network_only_when_that_is_said(address: str) -> None:
    assert not is_allowed(address, allow_private=False)
    assert is_allowed(address, allow_private=True)
    assert is_allowed(address, allow_private=True, encrypted=False)


@pytest.mark.parametrize("address", NEVER)
def test_special_ones_never(address: str) -> None:
    assert not is_allowed(address, allow_private=False)
    assert not is_allowed(address, allow_private=True)


def found(host: str, *, allow_private: bool) -> list[str]:
    return list(asyncio.run(resolve(host, 80, allow_private=allow_private, encrypted=True)))


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "0x7f.1", "2130706433", "017700000001", "::1"]
)
def test_a_name_is_what_it_resolves_to(host: str) -> None:
    with pytest.raises(AddressRefused, match="WARMLINE_WEBHOOKS_ALLOW_PRIVATE"):
        found(host, allow_private=False)
    assert set(found(host, allow_private=True)) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "0.0.0.0", "::ffff:169.254.169.254"])
def test_a_special_one_is_refused_though_private_ones_are_allowed(host: str) -> None:
    with pytest.raises(AddressRefused, match="special"):
        found(host, allow_private=True)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(HostUnknown, match=r"nowhere\.invalid"):
        found("nowhere.invalid", allow_private=True)
