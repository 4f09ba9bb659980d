"""Answers in one piece are held until they are whole, if they are small: so their headers can say what they cost.

mitmproxy sends an answer's headers at once where it is to be streamed, and otherwise keeps all of it however long it is. Here an
answer that is marked to be held is read as it arrives, as a stream is, and becomes a stream where it turns out to be long.
"""

from __future__ import annotations

from mitmproxy.http import Response
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.http import HttpStream, ResponseData, ResponseEndOfMessage, SendHttp

Commands = layer.CommandGenerator[None]

MAX_HELD_BYTES = 256 << 10
"""Bytes of an answer that are held: several times what a model writes in one piece; longer are pictures and lists of numbers."""


def hold(stream: HttpStream, event: events.Event, stock: Commands) -> Commands:
    """Return what a stream does at a part of an answer that mitmproxy would keep, which is ``stock``.

    ``flow.sluicegate_tap`` is the callback that reads an answer that is to be held; all others are mitmproxy's.
    """
    return stock if getattr(stream.flow, "sluicegate_tap", None) is None else _hold(stream, event, stock)


def _hold(stream: HttpStream, event: events.Event, stock: Commands) -> Commands:
    """Keep a part, and send what was kept once the answer is whole or too long to be held."""
    tap, response = stream.flow.sluicegate_tap, stream.flow.response  # type: ignore[attr-defined]
    assert response is not None
    if isinstance(event, ResponseData):
        stream.response_body_buf += tap(event.data)
        if len(stream.response_body_buf) > MAX_HELD_BYTES:
            held = bytes(stream.response_body_buf)
            stream.response_body_buf.clear()
            response.stream = tap
            yield from stream.start_response_stream()
            yield SendHttp(ResponseData(stream.stream_id, held), stream.context.client)
        return
    if isinstance(event, ResponseEndOfMessage):
        tap(b"")
        stock = send(response, stock)
    yield from stock


def send(response: Response, stock: Commands) -> Commands:
    """Send a whole answer, which is ``stock``; as of a stream, nothing of it is kept."""
    yield from stock
    response.data.content = None
