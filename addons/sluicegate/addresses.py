"""Hosts and IP addresses: how they are compared, which are public, and when a pattern matches."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_NAT64 = ip_network("64:ff9b::/96")


def normalize_host(host: str) -> str:
    """Return a host as it is compared: lower case, no trailing dot, no brackets, addresses in their canonical form."""
    text = host.strip().lower().rstrip(".").removeprefix("[").removesuffix("]")
    return _canonical_address(text) if len(text) <= 64 else text


@lru_cache(maxsize=1024)
def _canonical_address(text: str) -> str:
    try:
        return str(_unwrapped(ip_address(text)))
    except ValueError:
        return text


def is_address(host: str) -> bool:
    """Return whether a host is an IP address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the public internet; an IPv4 address inside an IPv6 one is judged as itself.

    Loopback, private, link-local (cloud metadata), shared, multicast, reserved and unspecified addresses are not public,
    nor is text that is not an IP address.
    """
    try:
        return (real := _unwrapped(ip_address(address))).is_global and not real.is_multicast
    except ValueError:
        return False


def is_loopback(address: str) -> bool:
    """Return whether an IP address is a loopback address."""
    return len(address) <= 64 and _loopback(address)


@lru_cache(maxsize=1024)
def _loopback(address: str) -> bool:
    try:
        return _unwrapped(ip_address(address)).is_loopback
    except ValueError:
        return False


def matches_any(patterns: Iterable[str], host: str) -> bool:
    """Return whether a normalized host matches one of the globs; ``*.example.com`` matches subdomains, not the domain itself."""
    return any(fnmatchcase(host, pattern.lower()) for pattern in patterns)


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address only wraps (mapped, 6to4, NAT64); any other address unchanged."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
