"""Read the first message of a TLS client: which server it names, and whether it hides another name.

Stricter than the servers that may read it: what one server could read in another way is an error here. RFC 8446, section
4.1.2; RFC 6066, section 3; RFC 9849 for the encrypted hello.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

HANDSHAKE_RECORD = 0x16
CLIENT_HELLO = 0x01
MAX_RECORD_BYTES = 1 << 14
"""Bytes of plaintext a record may have."""

MAX_RECORDS = 1024
"""Records a ClientHello may be cut into; clients use one or two, and each is looked at again whenever more arrives."""

SERVER_NAME, ENCRYPTED_HELLO = 0, 0xFE0D
DRAFT_ENCRYPTED_HELLOS = range(0xFE08, 0xFE0D)
"""Numbers of the extension in earlier drafts of it, and of encrypted SNI before that (0xFFCE)."""


class HelloError(ValueError):
    """What arrived begins like TLS and is no ClientHello that every server reads alike."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a ClientHello says about its server."""

    server_name: str | None
    """The name it gives; None where it gives none."""
    is_encrypted: bool
    """It may hide another name, which only the server can read."""


def may_be_tls(data: bytes) -> bool:
    """Return whether these first bytes are TLS as far as they go.

    A handshake's record begins it, and some servers pass over others before it. The record's version is not looked at: a
    server may ignore it.
    """
    return data[:1] == b"\x16" or (data[:1] in (b"\x14", b"\x15", b"\x17", b"\x18") and data[1:2] in (b"", b"\x03"))


def read_client_hello(data: bytes) -> Hello | None:
    """Return what the ClientHello at the start of a connection says; None while it is incomplete. Raises HelloError."""
    message = _message(data)
    return None if message is None else _hello(_Reader(message))


def _message(data: bytes) -> bytes | None:
    """Return the ClientHello's body, put together from its records; None while some of it is missing."""
    message, at = bytearray(), 0
    for _ in range(MAX_RECORDS):
        if len(data) < at + 5:
            return None
        if data[at] != HANDSHAKE_RECORD or data[at + 1] != 3:
            raise HelloError("another record stands inside the ClientHello")
        length = int.from_bytes(data[at + 3 : at + 5])
        if not 0 < length <= MAX_RECORD_BYTES:
            raise HelloError("a record has an impossible length")
        message += data[at + 5 : at + 5 + length]
        if message and message[0] != CLIENT_HELLO:
            raise HelloError("the first message is no ClientHello")
        if len(message) >= 4 and len(message) >= (end := 4 + int.from_bytes(message[1:4])):
            return bytes(message[4:end])
        at += 5 + length
    raise HelloError(f"it is cut into more than {MAX_RECORDS} records")


class _Reader:
    """Reads fields one after the other. Raises HelloError where one ends too early."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        self.at += count
        if len(taken) != count:
            raise HelloError("a field is cut short")
        return taken

    def vector(self, length_bytes: int) -> _Reader:
        return _Reader(self.take(int.from_bytes(self.take(length_bytes))))

    @property
    def is_empty(self) -> bool:
        return self.at >= len(self.data)


def _hello(reader: _Reader) -> Hello:
    reader.take(2 + 32)
    for length_bytes in (1, 2, 1):
        # The session's id, cipher suites, compression methods.
        reader.vector(length_bytes)
    if reader.is_empty:
        return Hello(None, is_encrypted=False)
    extensions: dict[int, _Reader] = {}
    listed = reader.vector(2)
    if not reader.is_empty:
        raise HelloError("bytes follow the extensions")
    while not listed.is_empty:
        kind = int.from_bytes(listed.take(2))
        if kind in extensions:
            raise HelloError("an extension is there twice")
        extensions[kind] = listed.vector(2)
    hidden = any(kind == ENCRYPTED_HELLO or kind in DRAFT_ENCRYPTED_HELLOS or kind == 0xFFCE for kind in extensions)
    name = _server_name(extensions[SERVER_NAME]) if SERVER_NAME in extensions else None
    return Hello(name, hidden)


def _server_name(reader: _Reader) -> str:
    names = reader.vector(2)
    kind, name = names.take(1), names.vector(2).data
    if kind != b"\0" or not names.is_empty or not reader.is_empty or not name:
        raise HelloError("the server's name is not one name")
    try:
        return name.decode("ascii")
    except UnicodeDecodeError as e:
        raise HelloError("the server's name is not ASCII") from e


HTTP_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT")


def may_be_http(data: bytes) -> bool:
    """Return whether these first bytes are an HTTP/1 request as far as they go."""
    line = data.lstrip(b"\r\n")[:10]
    return any(line.startswith(m + b" ") or (m + b" ").startswith(line) for m in HTTP_METHODS)


def read_http_hosts(data: bytes) -> list[str] | None:
    """Return the hosts that an HTTP/1 request names, in its Host lines and its target; None while its head is incomplete."""
    text = data.replace(b"\r\n", b"\n").lstrip(b"\n")
    head, end, _ = text.partition(b"\n\n")
    if not end:
        return None
    first, *lines = head.replace(b"\r", b"\n").split(b"\n")
    hosts = [value for name, _, value in (line.partition(b":") for line in lines) if name.strip().lower() == b"host"]
    for before, target in pairwise(first.split()):
        if b"://" in target:
            hosts.append(target.partition(b"://")[2].partition(b"/")[0].rpartition(b"@")[2])
        elif before == b"CONNECT":
            hosts.append(target)
    return [host.strip().decode("latin-1") for host in hosts]
