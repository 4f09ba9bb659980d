"""Requests whose answers are read as they arrive, on connections that are kept.

This way is short because every relayed call takes it: no more than a socket, a parser and a list of connections.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from sluicegate.http_client.dialling import Way, open_wire
from sluicegate.http_client.kept_connection import KeptConnection, request_on
from sluicegate.http_client.proxies import proxy_to
from sluicegate.http_client.trust import extra_authorities, trusting_context

MAX_FREE_CONNECTIONS = 200

KEPT_S = 60.0
"""How long a connection is kept without a request; usual servers close it sooner."""


@dataclass(slots=True)
class StreamedAnswer:
    """An answer whose body is still to come. ``close`` it, however it ends."""

    status: int
    headers: list[tuple[bytes, bytes]]
    chunks: AsyncIterator[bytes]
    """The body as it arrives, as it is encoded. Raises UnreachableError where it breaks off."""
    close: Callable[[], Awaitable[None]]


class StreamingClient:
    """Sends requests whose answers are read as they arrive, on connections that are kept. Use it in one event loop."""

    def __init__(self, ca_file: str | None = None) -> None:
        """``ca_file`` holds the authorities to trust in place of the system's."""
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None
        self._extra: str | None = None
        self._free: dict[Way, list[KeptConnection]] = {}
        """Connections without a request, the one longest free first."""
        self._in_use: set[KeptConnection] = set()

    @property
    def is_open(self) -> bool:
        """Return whether the authorities have been loaded."""
        return self._context is not None

    def open(self) -> ssl.SSLContext:
        """Return the authorities to trust, loaded once and when they have changed. Blocks for 20 ms then."""
        if self._context is None or self._extra is not extra_authorities():
            self._extra = extra_authorities()
            self._context = ssl.create_default_context(cafile=self._ca_file) if self._ca_file else trusting_context()
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context

    async def send(
        self,
        method: str,
        server: tuple[str, str, int],
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        on_sent: Callable[[], None] = lambda: None,
    ) -> StreamedAnswer:
        """Send a request to ``server`` (scheme, host, port) and return its answer once its headers are there.

        ``on_sent`` is called when its first bytes leave. Nothing is added to ``headers``, which frame the body too.
        Raises NotSentError, of which InvalidRequestError is a kind, or NoAnswerError.
        """
        context, way = self.open(), Way(*server, proxy_to(*server[1:]))
        request = request_on(way, method, target, headers, len(body))
        connection = self._take(way, context)
        if connection is None:
            connection = KeptConnection(way, await open_wire(way, context, connect_timeout_s), context)
        self._in_use.add(connection)
        try:
            on_sent()
            head = await connection.send(request, body, read_timeout_s)
        except BaseException:
            self._drop(connection)
            raise

        async def close() -> None:
            self._release(connection)

        return StreamedAnswer(head.status_code, head.headers.raw_items(), connection.chunks(read_timeout_s), close)

    def _take(self, way: Way, context: ssl.SSLContext) -> KeptConnection | None:
        """Return a free connection that was made with these authorities, and that its server has not closed."""
        free, now = self._free.get(way), asyncio.get_running_loop().time()
        while free:
            connection = free.pop()
            is_current = connection.context in (None, context) and connection.free_since + KEPT_S > now
            if is_current and connection.is_usable():
                return connection
            connection.close()
        return None

    def _release(self, connection: KeptConnection) -> None:
        """Keep a connection whose answer has been read to its end; close any other. Doing so again changes nothing."""
        if connection not in self._in_use:
            return
        self._in_use.remove(connection)
        if connection.may_be_kept():
            self._free.setdefault(connection.way, []).append(connection)
            self._close_old()

    def _close_old(self) -> None:
        """Close what has been free for too long, and the longest free where there are too many."""
        oldest = asyncio.get_running_loop().time() - KEPT_S
        for free in self._free.values():
            while free and (free[0].free_since < oldest or len(free) > MAX_FREE_CONNECTIONS):
                free.pop(0).close()

    def _drop(self, connection: KeptConnection) -> None:
        self._in_use.discard(connection)
        connection.close()

    async def close(self) -> None:
        """Close all connections."""
        for connection in (*self._in_use, *(one for free in self._free.values() for one in free)):
            connection.close()
        self._in_use.clear()
        self._free.clear()
