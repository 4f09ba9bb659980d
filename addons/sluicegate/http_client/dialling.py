"""Opening a connection to a server: to the first of its addresses that answers, through a proxy or not, with TLS or not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable
from typing import NamedTuple
from urllib.parse import urlsplit

import h11

from sluicegate.http_client.errors import NotSentError
from sluicegate.http_client.wire import Wire, reason_of

MAX_HEAD_BYTES = 100 << 10
"""Bytes of an answer's head."""

ADDRESS_DELAY_S = 0.25
"""How long an address of a server is tried alone before the next one is tried too (RFC 8305)."""


class Way(NamedTuple):
    """Where a server is, and the proxy on the way to it, with the proxy's authorization."""

    scheme: str
    host: str
    port: int
    proxy: tuple[str, str | None] | None = None

    @property
    def authority(self) -> bytes:
        """Return host and port, as a CONNECT names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return b"%b:%d" % (host.encode("ascii" if host.isascii() else "idna"), self.port)


async def open_wire(way: Way, context: ssl.SSLContext | None, timeout_s: float) -> Wire:
    """Return a connection to a server; ``context`` is for TLS. Each step may take ``timeout_s``. Raises NotSentError."""
    proxy = None if way.proxy is None else urlsplit(way.proxy[0])
    host, port = (way.host, way.port) if proxy is None else (proxy.hostname or "", proxy.port or 80)
    loop, context = asyncio.get_running_loop(), context if way.scheme == "https" else None
    wire = await _step(_dial(loop, host, port), timeout_s)
    try:
        if context is not None:
            if way.proxy is not None:
                await _step(_open_tunnel(wire, way, timeout_s), timeout_s)
            if not wire.is_silent():
                # What is not encrypted may be anyone's; it would be read later as the beginning of the server's answer.
                raise NotSentError("it sent something, or closed the connection, before TLS began")
            secured = await _step(loop.start_tls(wire.transport, wire, context, server_hostname=way.host), timeout_s)
            assert secured is not None
            wire.transport = secured
    except BaseException:
        wire.transport.abort()
        raise
    return wire


async def _dial(loop: asyncio.AbstractEventLoop, host: str, port: int) -> Wire:
    """Return a connection to the first of a host's addresses that answers; the others are given a moment's start in their order.

    Not asyncio's own, which fails in a loop with eager tasks (Python 3.13.0), such as mitmproxy's.
    """
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    under_way: set[asyncio.Task[Wire]] = set()
    error: BaseException | None = None
    try:
        while addresses or under_way:
            if addresses:
                under_way.add(loop.create_task(_dial_address(loop, addresses.pop(0), port)))
            delay_s = ADDRESS_DELAY_S if addresses else None
            done, _ = await asyncio.wait(under_way, timeout=delay_s, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                if (failure := attempt.exception()) is None:
                    under_way.remove(attempt)
                    return attempt.result()
                under_way.remove(attempt)
                error = error or failure
    finally:
        for attempt in under_way:
            attempt.cancel()
            attempt.add_done_callback(_hang_up)
    raise error or OSError("it has no address")


async def _dial_address(loop: asyncio.AbstractEventLoop, address: str, port: int) -> Wire:
    _, wire = await loop.create_connection(Wire, address, port)
    return wire


def _hang_up(attempt: asyncio.Task[Wire]) -> None:
    """Close a connection that another address has made needless."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().transport.abort()


async def _open_tunnel(wire: Wire, way: Way, timeout_s: float) -> None:
    """Have the proxy open a connection to the server. Raises NotSentError."""
    assert way.proxy is not None
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    headers = [(b"Host", way.authority), (b"Accept", b"*/*"), *proxy_headers(way.proxy)]
    asked = http.send(h11.Request(method="CONNECT", target=way.authority, headers=headers))
    http.send(h11.EndOfMessage())
    await wire.write(asked or b"", timeout_s)
    while not isinstance(event := http.next_event(), h11.Response):
        if event is h11.NEED_DATA:
            http.receive_data(await wire.read(timeout_s))
        elif not isinstance(event, h11.InformationalResponse):
            raise NotSentError("the proxy closed the connection without an answer")
    if not 200 <= event.status_code < 300:
        raise NotSentError(f"the proxy refused: {event.status_code} {event.reason.decode('latin-1')}")
    if http.trailing_data[0]:
        raise NotSentError("the proxy sent more than its answer")


async def _step[T](step: Awaitable[T], timeout_s: float) -> T:
    """Return what a step on the way to a connection gives. Raises NotSentError."""
    try:
        async with asyncio.timeout(timeout_s):
            return await step
    except (OSError, h11.ProtocolError, ValueError) as e:
        raise NotSentError(reason_of(e)) from e


def proxy_headers(proxy: tuple[str, str | None]) -> list[tuple[bytes, bytes]]:
    """Return what tells a proxy who asks."""
    return [] if proxy[1] is None else [(b"Proxy-Authorization", proxy[1].encode("latin-1"))]
