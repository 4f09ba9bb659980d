"""GOAWAY: what tells a client of HTTP/2 to send its next requests on another connection, before this one is closed.

It is told in a pause between two calls alone: Node answers it with its own at once, upon which mitmproxy ends the calls that
are under way.
"""

from __future__ import annotations

from typing import Any

from hyperframe.frame import GoAwayFrame
from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import Http2Server, HttpLayer

from runtime.injected_events import wake

FRAME = GoAwayFrame(last_stream_id=2**31 - 1).serialize()
"""No error, and every request is answered that was sent before the client has read this."""


class _Goaway:
    """Stands for a layer that sends it."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def handle_event(self, _: events.Event) -> layer.CommandGenerator[None]:
        """Send it."""
        yield commands.SendData(self.client, FRAME)


def send_goaway(handler: Any, http: HttpLayer) -> bool:
    """Tell the client of an HTTP layer; return False where that speaks another version of HTTP."""
    client = http.context.client
    if not isinstance(http.connections.get(client), Http2Server):
        return False
    wake(handler, http.context.layers, _Goaway(client))
    return True
