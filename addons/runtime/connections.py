"""Client connections: the calls in flight on each, and the sockets mitmproxy keeps for them."""

from __future__ import annotations

from typing import Any

from mitmproxy import ctx, http

in_flight: dict[str, set[http.HTTPFlow]] = {}
"""By client connection: the calls that have been admitted and have not ended. Module-level, so that a reload keeps it."""


strangers: dict[str, float] = {}
"""By client connection: when a client came that has made no request yet, on a clock that is never set; the oldest first."""


def connection_handlers() -> dict[Any, Any]:
    """Return mitmproxy's handlers of client connections, by the connection's id."""
    return getattr(ctx.master.addons.get("proxyserver"), "connections", {})


def client_writer(handler: Any) -> Any:
    """Return the stream by which a handler writes to its client; None where the client has left."""
    return writer_to(handler, getattr(handler, "client", None))


def writer_to(handler: Any, peer: Any) -> Any:
    """Return the stream by which a handler writes to its client or to a server; None where that connection has ended."""
    return getattr(getattr(handler, "transports", {}).get(peer), "writer", None)
