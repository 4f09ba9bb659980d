"""Whole requests: one that has come in one read is handed to its stream as one event, where mitmproxy makes three of it.

Only a request in the plainest form is taken so: HTTP/1.1, with a body of known length or none, and nothing behind it. Of one that
is larger than a read the head goes with what has come of its body, and the last piece with its end. What a head is made of is
read as mitmproxy reads it; what follows from the names of its headers is known once for each connection, whose requests nearly
always have the same. Of their values only ``host`` and ``connection`` are kept, which are no secrets. ``straight_line.py`` says
what becomes of such a request, and ``--set fast_streams=false`` leaves all to mitmproxy.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from h11._readers import ContentLengthReader
from mitmproxy.http import Headers, Request, RequestData
from mitmproxy.net.http import url
from mitmproxy.net.http.http1 import connection_close, read_request_head
from mitmproxy.proxy import events
from mitmproxy.proxy.layers.http import HttpEvent, HTTPMode, RequestHeaders, validate_request

from flow import services
from runtime.requests import known_ways
from runtime.streams import fast_streams
from runtime.streams.plain_heads import content_length, part_lines

logger = logging.getLogger("sluicegate")

VERSION = b"HTTP/1.1"

UNUSUAL = frozenset((b"transfer-encoding", b"expect", b"upgrade"))
"""Headers by which a request is more than a head and a body of known length."""


class Names(NamedTuple):
    """What is known of a request from the names of its headers, and from the values of two of them."""

    names: tuple[bytes, ...]
    at_length: int
    """The place of ``content-length``; -1 where there is none."""
    pick: Callable[[tuple[bytes, ...]], Any]
    """Picks the values of ``host`` and ``connection`` from those of all headers."""
    picked: Any
    """What it has picked."""
    destination: tuple[str, int | None] | None
    """The host and the port that ``host`` names; None if it does not name one."""
    asks_to_close: bool


@dataclass
class ArrivedRequest(RequestHeaders):
    """A request's head, and what has come with it of its body. A kind of request head, so that a stream is made for it."""

    content: bytes = b""
    size: int = 0
    """Bytes of the whole body."""
    server: Any = None
    """Our side of the client's connection."""
    known: Any = None
    """Its ``Names``."""

    @property
    def is_whole(self) -> bool:
        """Whether all of the request has come."""
        return len(self.content) == self.size


@dataclass
class BodyEnd(HttpEvent):
    """The last piece of a request's body, and the end of its message."""

    data: bytes
    server: Any


def take(server: Any, event: events.Event) -> ArrivedRequest | str:
    """Take a request out of our side of a client's connection, as far as it has come; or return why it is left to mitmproxy."""
    if not fast_streams.is_on():
        return "off"
    if not known_ways.FITS:
        return "unfit"
    try:
        return _take(server, event.data) if type(event) is events.DataReceived else "parts"
    except Exception:
        # Nothing has been taken out yet. Other requests are none the worse for it: what a client sends may not slow them down.
        logger.exception("A request takes the general, slower way, because the short way failed")
        return "error"


def _take(server: Any, data: bytes) -> ArrivedRequest | str:
    if len(data) != len(server.buf):
        return "parts"
    # Inside a CONNECT the first one is a bytearray.
    data = bytes(data)
    head, blank, content = data.partition(b"\r\n\r\n")
    if not blank:
        return "parts"
    first, *lines = head.split(b"\r\n")
    if head.count(b"\n") != len(lines):
        return "form"
    request = request_of(server, first, lines)
    if request is None:
        return "form"
    known: Names = server.known_names
    size = content_length(request.data.headers.fields[known.at_length][1]) if known.at_length >= 0 else 0
    if size is None:
        return "form"
    if size < len(content):
        return "ahead"
    server.buf = type(server.buf)()
    reader = server.body_reader = ContentLengthReader(size)
    reader._remaining -= len(content)
    return ArrivedRequest(server.stream_id, request, not size, None, content, size, server, known)


def take_end(server: Any, event: events.Event) -> BodyEnd | None:
    """Take the last piece of a body of known length out of our side of a client's connection; None to leave it to mitmproxy."""
    reader = server.body_reader
    if type(reader) is not ContentLengthReader or type(event) is not events.DataReceived:
        return None
    data = event.data
    if not data or len(data) != reader._remaining or len(data) != len(server.buf):
        return None
    # mitmproxy tells a stream nothing of the end of a CONNECT.
    if not fast_streams.is_on() or not known_ways.FITS or server.request.data.method.upper() == b"CONNECT":
        return None
    reader._remaining = 0
    server.buf = type(server.buf)()
    return BodyEnd(server.stream_id, bytes(data), server)


def request_of(server: Any, first: bytes, lines: list[bytes]) -> Request | None:
    """Return the request with this first line and these headers; None if it is not in the plainest form, or not valid."""
    try:
        method, target, version = first.split()
        names, values = part_lines(lines)
    except ValueError:
        return None
    if version != VERSION or method.upper() == b"CONNECT":
        return None
    fields = tuple(zip(names, values, strict=True))
    known: Names | None = server.known_names
    if known is None or names != known.names or known.pick(values) != known.picked:
        known = server.known_names = names_of(first, lines, fields)
        if known is None:
            return None
    host, port, scheme, authority, path = "", 0, b"", b"", target
    if target[:1] != b"/":
        try:
            named = read_request_head([first]).data
        except ValueError:
            return None
        host, port, scheme, authority, path = named.host, named.port, named.scheme, named.authority, named.path
        if scheme not in (b"http", b"https", b""):
            return None
    headers = object.__new__(Headers)
    headers.fields = fields
    request = object.__new__(Request)
    request.data = RequestData(VERSION, headers, None, None, time.time(), None, host, port, method, scheme, authority, path)
    return request


def names_of(first: bytes, lines: list[bytes], fields: tuple[tuple[bytes, bytes], ...]) -> Names | None:
    """Return what follows from a request's headers; None if they are not in the plainest form, or not valid."""
    try:
        request = read_request_head([first, *lines])
    except (ValueError, IndexError):
        return None
    names = [name.lower() for name, _ in fields]
    # Otherwise a line continues the one before it.
    is_same = request.headers.fields == fields
    if not is_same or not UNUSUAL.isdisjoint(names) or validate_request(HTTPMode.regular, request, True) is not None:
        return None
    try:
        destination = url.parse_authority(request.host_header or "", check=True)
    except ValueError:
        destination = None
    places = [at for at, name in enumerate(names) if name in (b"host", b"connection")]
    pick = itemgetter(*places) if places else len
    return Names(
        tuple(name for name, _ in fields),
        names.index(b"content-length") if b"content-length" in names else -1,
        pick,
        pick(tuple(value for _, value in fields)),
        destination,
        connection_close(request.http_version, request.headers),
    )


def count(why: str) -> None:
    """Count a request, by why it was left to mitmproxy; empty for one that was not."""
    services().request_ways["general" if why else "fast", why] += 1
