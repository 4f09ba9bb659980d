"""PROXY protocol, versions 1 and 2: what a proxy says about its client before the client's own first byte.

Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

V1, V2 = b"PROXY ", b"\r\n\r\n\x00\r\nQUIT\n"
"""How a header of either version begins."""

MAX_V1_BYTES = 107
"""Bytes of the longest header of version 1, with its line end."""

MAX_V2_BYTES = 4096
"""Bytes of a header of version 2 with all its extensions; the longest that known proxies write hold a certificate's names."""

_V2_HEAD = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_WITHOUT_ADDRESS = (0x00, 0x31)
"""Unspecified, and a Unix socket: the connection's own address is all that is known."""


class HeaderError(ValueError):
    """A header that no two readers need read alike: the connection ends."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header that is complete: its bytes, and the client's address and port; None where the proxy names none."""

    size_bytes: int
    source: tuple[str, int] | None


NONE = Header(0, None)
"""What the bytes of a connection that begins without a header are read as."""


def may_begin(data: bytes) -> bool:
    """Return whether these first bytes of a connection are a header, or may become one."""
    return any(data.startswith(start) or start.startswith(data) for start in (V1, V2))


def read_header(data: bytes) -> Header | None:
    """Return the header that a connection's bytes begin with; None while it is not complete. Raises HeaderError."""
    if not may_begin(data):
        return NONE
    if data.startswith(V1):
        return _read_v1(data)
    return _read_v2(data) if data.startswith(V2) else None


def _read_v1(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, MAX_V1_BYTES)
    if end < 0:
        if len(data) >= MAX_V1_BYTES:
            raise HeaderError(f"a header of version 1 has at most {MAX_V1_BYTES} bytes")
        return None
    kind, *words = data[len(V1) : end].split(b" ")
    if kind == b"UNKNOWN":
        return Header(end + 2, None)
    if kind not in (b"TCP4", b"TCP6") or len(words) != 4:
        raise HeaderError("a header of version 1 is: PROXY TCP4|TCP6 source destination port port")
    source, _ = (_address(kind, word) for word in words[:2])
    port, _ = (_port(word) for word in words[2:])
    return Header(end + 2, (source, port))


def _address(kind: bytes, word: bytes) -> str:
    try:
        return str(IPv4Address(word.decode("ascii")) if kind == b"TCP4" else _ipv6(word.decode("ascii")))
    except ValueError as e:
        raise HeaderError(f"a header of version 1 names no {kind.decode()} address") from e


def _ipv6(text: str) -> IPv6Address | IPv4Address:
    found = IPv6Address(text)
    if found.scope_id is not None:
        raise ValueError("an address of another machine has no zone")
    return found.ipv4_mapped or found


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (word[:1] == b"0" and word != b"0") or int(word) > 65535:
        raise HeaderError("a header of version 1 names no port")
    return int(word)


def _read_v2(data: bytes) -> Header | None:
    if len(data) < _V2_HEAD.size:
        return None
    _, command, family, length = _V2_HEAD.unpack_from(data)
    if command not in (_LOCAL, _PROXY):
        raise HeaderError("a header of version 2 has an unknown version or command")
    size_bytes = _V2_HEAD.size + length
    if size_bytes > MAX_V2_BYTES:
        raise HeaderError(f"a header of version 2 has at most {MAX_V2_BYTES} bytes")
    if len(data) < size_bytes:
        return None
    if command == _LOCAL or family in _WITHOUT_ADDRESS:
        return Header(size_bytes, None)
    width = {_TCP4: 4, _TCP6: 16}.get(family)
    if width is None or length < 2 * width + 4:
        raise HeaderError("a header of version 2 names no TCP connection")
    packed = data[_V2_HEAD.size : _V2_HEAD.size + width]
    address = IPv4Address(packed) if width == 4 else IPv6Address(packed).ipv4_mapped or IPv6Address(packed)
    (port,) = struct.unpack_from("!H", data, _V2_HEAD.size + 2 * width)
    return Header(size_bytes, (str(address), port))
