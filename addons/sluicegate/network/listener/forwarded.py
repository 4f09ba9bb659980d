"""Client addresses behind proxies: X-Forwarded-For counts from its end, as far as proxies that policy trusts have written it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

MAX_HOPS = 32
"""Proxies in a row that are looked at; the ones that policy trusts are a few."""

MAX_ENTRY_CHARACTERS = 64

_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d{1,5})?|(\d+\.\d+\.\d+\.\d+):\d{1,5}")
"""An address with its port, as some load balancers write it, or an IPv6 one in brackets."""


@lru_cache(maxsize=16)
def networks_of(trusted: tuple[str, ...]) -> tuple[Network, ...]:
    """Return the networks that policy lists."""
    return tuple(ip_network(text) for text in trusted)


def is_trusted(address: str, trusted: tuple[str, ...]) -> bool:
    """Return whether a connection from this address is one of a proxy that policy trusts."""
    found = _read(address)
    return found is not None and any(found.version == n.version and found in n for n in networks_of(trusted))


def client_address(peer: str, forwarded_for: Sequence[str], trusted: tuple[str, ...]) -> str:
    """Return the address of a request's sender: ``peer``, or who the trusted proxies before it say it is.

    ``forwarded_for`` holds the values of X-Forwarded-For in their order. Each proxy adds at the end whom it got the request
    from, so what stands before an address that is not trusted is a claim of the client's and is not read.
    """
    address, hops = peer, 0
    entries = [entry for value in forwarded_for for entry in value[-4096:].split(",")]
    while entries and hops < MAX_HOPS and is_trusted(address, trusted):
        found = _read(entries.pop().strip())
        if found is None:
            # Not an address: the last one that is known.
            break
        address, hops = str(found), hops + 1
    return address


@lru_cache(maxsize=4096)
def _read(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a text is, without port or zone; an IPv4 one that IPv6 only wraps as itself."""
    if len(text) > MAX_ENTRY_CHARACTERS:
        return None
    if (parts := _WITH_PORT.fullmatch(text)) is not None:
        text = parts[1] or parts[2]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
