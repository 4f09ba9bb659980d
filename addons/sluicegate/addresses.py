"""Hosts and IP addresses: one spelling to compare them by, which are public, and when a pattern matches.

The same host can be written in many ways, and a system's resolver reads most of them. Everything that compares hosts
(CONNECT, absolute URIs, SNI, policy, webhooks) compares what ``normalize_host`` returns.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

MAX_HOST_CHARACTERS = 253
"""Characters a host name may have (RFC 1035)."""

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:]*):([0-9]{1,5})", re.DOTALL)
"""A host and its port. Not an IPv6 address without brackets, whose last group would be taken for one."""

_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")

_READ_TWO_WAYS = frozenset("\u00df\u03c2\u200c\u200d")
"""Characters that the older standard for international names (IDNA 2003) replaces or drops, and the newer one keeps."""

_NAT64 = ip_network("64:ff9b::/96")
_COMPATIBLE = ip_network("::/96")
_THIS_NETWORK = ip_network("0.0.0.0/8")
_GLOBAL_UNICAST = ip_network("2000::/3")

_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        # Azure's metadata server: public by its number, but reachable from virtual machines alone.
        "168.63.129.16/32",
    )
)
"""Networks of no public server: IANA's IPv4 and IPv6 special-purpose address registries, as of 2025-10; of IPv6 those in
2000::/3, because nothing outside it is public. Written down here, because Python's own table differs between its versions."""


def normalize_host(host: str) -> str:
    """Return a host in the one spelling it is compared by.

    Names: lower case, no dots at the end, international ones as ``xn--``. Addresses: canonical, without brackets and
    zone, whatever notation ``inet_aton`` reads (127.1, 0x7f000001), and an IPv4 address where an IPv6 one only wraps it.
    What is neither is returned in lower case; ``is_host`` tells.
    """
    return _read(host)[0]


def is_host(host: str) -> bool:
    """Return whether this is a name or an address that every reader reads alike."""
    return _read(host)[1]


def split_port(authority: str) -> tuple[str, int | None]:
    """Return the host of ``host:port`` or ``[address]:port``, normalized, and its port; None where there is none."""
    # Long ones are not cached: a caller who varies them could fill the cache with megabytes.
    return _split_port(authority) if len(authority) <= MAX_HOST_CHARACTERS else _split_port.__wrapped__(authority)


@lru_cache(maxsize=1024)
def _split_port(authority: str) -> tuple[str, int | None]:
    found = _AUTHORITY.fullmatch(authority.strip())
    if found is None:
        return normalize_host(authority), None
    return normalize_host(found[1]), int(found[2])


def is_address(host: str) -> bool:
    """Return whether a normalized host is an IP address rather than a name."""
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
    return _is_public(address) if len(address) <= 64 else False


def is_loopback(address: str) -> bool:
    """Return whether an IP address is a loopback address."""
    return len(address) <= 64 and _loopback(address)


def limited_as(address: str) -> str:
    """Return by what the sender at an IP address is counted: in IPv6 its /64, all of whose addresses one machine can have."""
    try:
        found = _unwrapped(ip_address(address[:64].partition("%")[0]))
    except ValueError:
        return address
    return str(ip_network((found, 64), strict=False)) if isinstance(found, IPv6Address) else str(found)


def network_of(sender: str) -> str:
    """Return the network of a sender as ``limited_as`` names it: in IPv4 its /24, in IPv6 its /48, which one site can have."""
    try:
        found = ip_address(sender.partition("/")[0])
    except ValueError:
        return sender
    return str(ip_network((found, 48 if isinstance(found, IPv6Address) else 24), strict=False))


def refusal_of_server(host: str) -> str | None:
    """Return why no server that a policy names can be at this host; None if one can.

    A private address may be a server in the office; a link-local one is a cloud's metadata, which hands out credentials,
    and an unspecified one means different machines to different systems.
    """
    if not is_host(host):
        return "the host is not a name or an address that every reader reads alike"
    name = normalize_host(host)
    if name in _METADATA_NAMES:
        return f"{name} is the name of a cloud's metadata server, which hands out credentials"
    if not is_address(name):
        return None
    address = ip_address(name)
    if address.is_unspecified or address in _THIS_NETWORK:
        return f"{name} is not an address of a server; write 127.0.0.1 or the server's own address"
    reserved = address.is_reserved if isinstance(address, IPv4Address) else address.is_site_local
    if address.is_link_local or address.is_multicast or reserved or name in _METADATA:
        return f"{name} is a link-local, multicast or reserved address, at which no such server can be"
    return None


_METADATA_NAMES = {"metadata", "metadata.goog", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"}
"""The same by the names that their clouds' own resolvers know."""

_METADATA = {"168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254"}
"""Metadata servers of Azure, Alibaba Cloud, AWS and Google Cloud at addresses that are not link-local."""


def matches_any(patterns: Iterable[str], host: str) -> bool:
    """Return whether a normalized host matches one of the globs; ``*.example.com`` matches subdomains, not the domain itself."""
    return any(fnmatchcase(host, pattern.lower()) for pattern in patterns)


@lru_cache(maxsize=4096)
def _read(host: str) -> tuple[str, bool]:
    """Return a host's spelling to compare by, and whether it is a host at all."""
    text = host.strip().lower()
    if not text.isascii():
        if not _READ_TWO_WAYS.isdisjoint(text):
            return text, False
        try:
            # What Python's own resolver does with such a name: full-width characters and dots become plain ones.
            text = text.encode("idna").decode("ascii").lower()
        except UnicodeError:
            return text, False
    text = text.rstrip(".")
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare:
        try:
            # The zone says by which interface, not which address.
            return str(_unwrapped(ip_address(bare.partition("%")[0]))), True
        except ValueError:
            return bare, False
    if bare != text or not bare or len(bare) > MAX_HOST_CHARACTERS:
        return bare, False
    labels = bare.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # A name that ends in a number is an address or, to some readers, another one: never a name.
        address = _inet_aton(labels)
        return (bare, False) if address is None else (str(address), True)
    return bare, all(_LABEL.fullmatch(label) and _is_plain(label) for label in labels)


def _inet_aton(labels: list[str]) -> IPv4Address | None:
    """Return the IPv4 address that a system's resolver reads: one to four decimal, octal or hexadecimal numbers."""
    if len(labels) > 4:
        return None
    numbers = []
    for label in labels:
        # At most 40 characters: zeros in front change nothing, but Python refuses to read thousands of digits.
        if len(label) > 40 or not _NUMBER.fullmatch(label):
            return None
        base = 16 if label.startswith("0x") else 8 if label.startswith("0") else 10
        try:
            numbers.append(int(label, base))
        except ValueError:
            return None
    *first, last = numbers
    if any(n > 255 for n in first) or last >= 256 ** (4 - len(first)):
        return None
    return IPv4Address(sum(n << (24 - 8 * i) for i, n in enumerate(first)) + last)


def _is_plain(label: str) -> bool:
    """Return whether a label is what it says: an ``xn--`` one that stands for plain text would be a second spelling."""
    if not label.startswith("xn--"):
        return True
    try:
        return not unicodedata.normalize("NFKC", label[4:].encode("ascii").decode("punycode")).isascii()
    except (UnicodeError, OverflowError):
        return False


@lru_cache(maxsize=1024)
def _is_public(text: str) -> bool:
    try:
        address = _unwrapped(ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return not any(address.version == network.version and address in network for network in _NOT_PUBLIC)


@lru_cache(maxsize=1024)
def _loopback(address: str) -> bool:
    try:
        return _unwrapped(ip_address(address)).is_loopback
    except ValueError:
        return False


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 one only wraps (mapped, compatible, 6to4, NAT64); any other address unchanged."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
            return IPv4Address(int(address) & 0xFFFFFFFF)
        # Without its zone.
        return IPv6Address(int(address))
    return address
