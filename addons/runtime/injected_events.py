"""Events of our own in mitmproxy's layers: one is handed to whatever stands in for a layer, inside CONNECT and TLS too.

mitmproxy takes a wake-up to the layer that has asked for it. So ours is noted in each HTTP layer on the way as asked for by what
is to have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, cast

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import HttpLayer


class Receiver(Protocol):
    """What stands in for a layer."""

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Do what a layer would do, when the event comes."""


def wake(handler: Any, above: Sequence[layer.Layer], receiver: Receiver) -> None:
    """Have a client's handler wake a receiver that stands below these layers; nothing where the client has left."""
    if handler is None:
        return
    wakeup = commands.RequestWakeup(0)
    for outer, inner in pairwise((*above, receiver)):
        if isinstance(outer, HttpLayer):
            outer.command_sources[wakeup] = cast(Any, inner)
    asyncio.get_running_loop().create_task(handler.server_event(events.Wakeup(wakeup)))
