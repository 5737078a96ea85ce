"""Which addresses events may be posted to: none of the own network, unless that is allowed.

A host's name is resolved here, and the connection is made to the very address that was checked: a name that means
something else a moment later gains nothing. The lists are IANA's special-purpose registries and the addresses at
which clouds tell a machine its credentials.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

from warmline.jobs.errors import PermanentError, TransientError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Networks of one's own, which WARMLINE_WEBHOOKS_ALLOW_PRIVATE opens.
PRIVATE: Final = tuple(
    map(
        ipaddress.ip_network,
        ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7"),
    )
)
# Never, whatever is allowed.
FORBIDDEN: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
            "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
            "100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128",  # Alibaba's, Azure's, AWS's
            "2001::/23", "2001:db8::/32", "3fff::/20",
        ),
    )
)  # fmt: skip
_GLOBAL_IPV6: Final = ipaddress.ip_network("2000::/3")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(PermanentError):
    """The receiver's address is not one that events may be posted to (WARMLINE_WEBHOOKS_ALLOW_PRIVATE)."""

    code = "address_refused"
    title = "Address refused"


class HostUnknown(TransientError):
    """The receiver's name cannot be resolved; check it, and the name server."""

    code = "host_unknown"
    title = "Unknown host"


async def resolve(host: str, port: int, *, allow_private: bool, encrypted: bool) -> Sequence[str]:
    """The addresses of a host that events may be posted to, best first. Not `encrypted`: only private ones.

    Raises AddressRefused where there is none, HostUnknown.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise HostUnknown(f"The name {host} cannot be resolved.") from None
    texts = list(dict.fromkeys(str(address[0]) for *_, address in found))
    kept = [text for text in texts if is_allowed(text, allow_private=allow_private, encrypted=encrypted)]
    if not kept:
        reason = (
            "is private or special; WARMLINE_WEBHOOKS_ALLOW_PRIVATE=true allows those of your own network"
            if not allow_private
            else "is special, or public and not asked by https"
        )
        raise AddressRefused(f"Nothing was posted: the address of {host} {reason}.")
    return kept


def is_allowed(text: str, *, allow_private: bool, encrypted: bool = True) -> bool:
    """Whether events may be posted to this address. Not `encrypted` (http): to those of the own network alone."""
    address = _embedded(ipaddress.ip_address(text))
    if address is None or any(address in network for network in FORBIDDEN):
        return False
    if any(address in network for network in PRIVATE):
        return allow_private
    is_public = isinstance(address, ipaddress.IPv4Address) or address in _GLOBAL_IPV6
    return is_public and encrypted


def _embedded(address: Address) -> Address | None:
    """The IPv4 address that an IPv6 one stands for, or the address itself. None: one that nobody should use."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.scope_id is not None:
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
