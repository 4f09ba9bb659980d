"""Bounds: what is kept of a client that sends and sends is bounded.

mitmproxy reads headers until they end, and what a client sends ahead while its answer is on the way, into memory
without a limit: one connection could take all there is.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import _http1

from adapter import Addon

logger = logging.getLogger("sluicegate")

MOST_HEAD = 256 << 10
"""Bytes of a request's line and headers; servers take from 16 KB to 1 MB."""

MOST_AHEAD = 1 << 20
"""Bytes a client may send before it has its answer; clients that pipeline send small requests, and most send none."""

Steps = Generator[commands.Command, Any, None]


class Bounds(Addon):
    """Ends the connections of clients that go on beyond them."""

    def running(self) -> None:
        """mitmproxy: the proxy is up."""
        super().running()
        server = getattr(_http1, "Http1Server", None)
        stock = getattr(server, "read_headers", None), getattr(server, "wait", None)
        if None in stock:
            logger.warning("mitmproxy reads requests elsewhere: their headers are not bounded")
        elif not hasattr(server, "bounded"):
            bound(server, *stock)


def bound(server: Any, read_headers: Any, wait: Any) -> None:
    """Put bounds on mitmproxy's reader of HTTP/1 requests."""

    def bounded_headers(self: Any, event: events.Event) -> Steps:
        yield from read_headers(self, event)
        if self.state == self.read_headers and len(self.buf) > MOST_HEAD:
            self.state = self.done
            yield commands.SendData(self.conn, _http1.make_error_response(431, f"Headers end within {MOST_HEAD} bytes."))
            yield commands.CloseConnection(self.conn)

    def bounded_wait(self: Any, event: events.Event) -> Steps:
        if len(self.buf) <= MOST_AHEAD:
            yield from wait(self, event)
        else:
            # Its call ends as if it had left.
            self.state = self.done
            yield from wait(self, events.ConnectionClosed(self.conn))

    server.read_headers, server.wait, server.bounded = bounded_headers, bounded_wait, True


addons = [Bounds()]
