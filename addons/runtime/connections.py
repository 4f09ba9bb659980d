"""Connections: the calls in flight on a client's, and the sockets that mitmproxy keeps."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from mitmproxy import ctx, http

in_flight: dict[str, set[http.HTTPFlow]] = {}
"""By client connection: the calls that have been admitted and have not ended. Module-level, so that a reload keeps it."""


strangers: dict[str, float] = {}
"""By client connection: when a client came that has made no request yet, on a clock that is never set; the oldest first."""


def connection_handlers() -> dict[Any, Any]:
    """Return mitmproxy's handlers of client connections, by the connection's id; none where no proxy runs."""
    master = getattr(ctx, "master", None)
    return {} if master is None else getattr(master.addons.get("proxyserver"), "connections", {})


def client_writer(handler: Any) -> Any:
    """Return the stream by which a handler writes to its client; None where the client has left."""
    return writer_to(handler, getattr(handler, "client", None))


def writer_to(handler: Any, peer: Any) -> Any:
    """Return the stream by which a handler writes to its client or to a server; None where that connection has ended."""
    return getattr(getattr(handler, "transports", {}).get(peer), "writer", None)


def reset(transport: asyncio.WriteTransport) -> None:
    """Reset a connection, so that nobody takes what has come on it for the whole."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
