"""Kept answers given again at the pace at which they came: piece by piece, between which mitmproxy does everything else.

mitmproxy sends an answer that an addon has set all at once. Here its head is sent, and the stream asks mitmproxy to be woken
for each piece, as its layers do where they wait: nothing is blocked, and a client that leaves ends its call as during any stream.
"""

from __future__ import annotations

from typing import Any

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import HttpStream, RequestProtocolError, ResponseData, ResponseHeaders, SendHttp

from flow import services
from runtime.connections import client_writer, connection_handlers

Commands = layer.CommandGenerator[None]

SLOW_CLIENT_S = 0.1
"""How long a client that does not take what it has been sent is left alone."""


def give(stream: HttpStream, stock: Commands) -> Commands:
    """Return how a stream sends its answer: piece by piece where ``flow.sluicegate_replay`` says so, else as mitmproxy does."""
    return stock if getattr(stream.flow, "sluicegate_replay", None) is None else _begin(stream)


def _begin(stream: Any) -> Commands:
    """Send the head of an answer, and what is due of it."""
    # mitmproxy's own states of a stream know no such events; they are back once the answer is over.
    stream._handle_event = lambda event: _handle(stream, event)
    yield SendHttp(ResponseHeaders(stream.stream_id, stream.flow.response, end_stream=False), stream.context.client)
    yield from _go_on(stream)


def _handle(stream: Any, event: events.Event) -> Commands:
    """Handle an event while an answer is given."""
    if isinstance(event, events.Wakeup):
        return _go_on(stream)
    if isinstance(event, RequestProtocolError):
        return _end_early(stream, event)
    raise AssertionError(f"no such event while an answer is given: {event}")


def _go_on(stream: Any) -> Commands:
    """Send what is due; end the answer, or ask to be woken for the rest."""
    replay = stream.flow.sluicegate_replay
    # While the gateway stops, nobody is to wait for pauses; and mitmproxy takes whoever is woken for active.
    has_to_end = services().draining or replay.is_overdue
    if not has_to_end and _is_slow(stream):
        yield commands.RequestWakeup(SLOW_CLIENT_S)
        return
    if given := replay.take(all_of_it=has_to_end):
        yield SendHttp(ResponseData(stream.stream_id, given), stream.context.client)
    if not replay.is_over:
        yield commands.RequestWakeup(replay.wait_s())
        return
    _stock(stream)
    yield from stream.send_response(already_streamed=True)


def _end_early(stream: Any, event: RequestProtocolError) -> Commands:
    """End the call of a client that has left."""
    stock = _stock(stream)
    # Otherwise mitmproxy would tell a provider, and there is none.
    stream.client_state = stream.state_consume_request_body
    yield from stock(event)
    # It may still be woken.
    stream._handle_event = _ignore


def _stock(stream: Any) -> Any:
    """Put mitmproxy's own way to handle events back, and return it."""
    stream.__dict__.pop("_handle_event", None)
    return stream._handle_event


def _is_slow(stream: Any) -> bool:
    """Return whether a client has not taken what it has been sent."""
    transport = getattr(client_writer(connection_handlers().get(stream.context.client.id)), "transport", None)
    return transport is not None and transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]


def _ignore(event: events.Event) -> Commands:
    """Do nothing with an event: its call has ended."""
    yield from ()
