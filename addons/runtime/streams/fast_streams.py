"""Fast streams: a provider's answer takes a short way to its client once its head has been judged and it streams.

Where anything about it is not what the short way knows, mitmproxy's general way is taken, which is the same to either side:
counters say how often and why. ``--set fast_streams=false`` leaves all answers to the general way. Whatever else goes past
mitmproxy's event path, such as a request, asks here whether it may.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, ClassVar

from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import connection, ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.layers import ClientTLSLayer, ServerTLSLayer, modes
from mitmproxy.proxy.layers.http import (
    Http1Client,
    Http1Server,
    Http2Client,
    Http2Server,
    HttpClient,
    HttpLayer,
    HttpStream,
)
from mitmproxy.proxy.server import ConnectionHandler, TimeoutWatchdog

from flow import Addon, services
from runtime.connections import connection_handlers
from runtime.requests import known_ways
from runtime.streams import chunk_framing, entry, http2_frames, tls_records
from runtime.streams.chunk_framing import stock_reader
from runtime.streams.entry import entry_of, put_before
from runtime.streams.short_way import Route, http2_sender, plain_sender
from runtime.streams.tls_records import Decryption
from runtime.streams.used_names import missing_name

logger = logging.getLogger("sluicegate")


class FastStreams(Addon):
    """Declares the switch, and knows whether the short way can be taken at all."""

    name = "fast_streams"

    is_on: ClassVar[bool] = False
    """Whether the option says so and this mitmproxy fits. The class's own, so that a reload of the chain keeps it."""
    fits: ClassVar[bool] = False

    def load(self, loader: Loader) -> None:
        """Declare the switch."""
        super().load(loader)
        loader.add_option(
            "fast_streams",
            bool,
            True,
            "Give what comes, most of all requests and streamed answers, a short way past mitmproxy.",
        )

    def configure(self, updated: set[str]) -> None:
        """Follow the switch."""
        if "fast_streams" in updated:
            switch()

    def running(self) -> None:
        """Begin, where all that is needed is there."""
        super().running()
        missing = entry.lacking() or chunk_framing.lacking() or http2_frames.lacking() or tls_records.lacking() or lacking()
        FastStreams.fits = missing is None
        if missing is not None:
            logger.warning("Answers are streamed the general, slower way, because this version lacks %s", missing)
        if not known_ways.FITS:
            logger.warning("Requests take the general, slower way, because this version of mitmproxy is not known")
        switch()

    def client_connected(self, client: connection.Client) -> None:
        """Put the entry in front of mitmproxy's reader, before anything is read."""
        enter(connection_handlers().get(client.id), client)

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Put the entry in front of mitmproxy's reader."""
        enter(connection_handlers().get(data.client.id), data.server)


def switch() -> None:
    """Turn the short way on or off for answers and connections that begin from now on."""
    FastStreams.is_on = FastStreams.fits and bool(ctx.options.fast_streams)


def is_on() -> bool:
    """Return whether requests and answers may go past mitmproxy's event path."""
    return FastStreams.is_on


def enter(handler: Any, peer: connection.Connection) -> None:
    """Let what comes from a client, or from a server of one that has been let, be handed to mitmproxy's layers where it comes."""
    if handler is not None and (FastStreams.is_on or peer is not handler.client):
        put_before(handler, peer)


def lacking() -> str | None:
    """Return what the short way uses of mitmproxy and cannot find; None if all is there."""
    if (missing := missing_name([(ReceiveBuffer(), ["_data"])])) is not None:
        return missing
    wanted: list[tuple[Callable[..., Any], list[str]]] = [
        (ConnectionHandler.server_event, ["self", "event"]),
        (ServerTLSLayer.receive_data, ["self", "data"]),
        (ClientTLSLayer.send_data, ["self", "data"]),
        (TimeoutWatchdog.register_activity, ["self"]),
    ]
    for function, parameters in wanted:
        if list(inspect.signature(function).parameters) != parameters:
            return function.__qualname__
    return None


def begin(stream: HttpStream) -> None:
    """Let a provider's answer that begins to stream take the short way, if all about it is what that knows."""
    if not getattr(stream.flow.response and stream.flow.response.stream, "passes_unchanged", False):
        return
    if (reading := reader_of_head(stream)) is not None:
        # How the body is framed, and whether any of it is still to come, is known once the read is over.
        reading.streams_to = stream
        return
    choose(stream)


def reader_of_head(stream: Any) -> Any:
    """Return mitmproxy's side of an HTTP/1 provider's connection if it is reading the head of this very answer; else None."""
    context = stream.context
    if context.layers[-1] is not stream or not isinstance(http := context.layers[-2], HttpLayer):
        return None
    client = http.connections[context.server].context.layers[-1] if context.server in http.connections else None
    is_reading = isinstance(client, Http1Client) and client.response is stream.flow.response and client.state == client.read_headers
    return client if is_reading else None


def after_read(client: Any) -> None:
    """Let the answer take the short way that began to stream within the read that has just been handled."""
    stream = client.streams_to
    client.streams_to = None
    choose(stream)


def choose(stream: Any) -> None:
    """Put an answer on the short way if all about it is what that knows, and count which way it takes."""
    try:
        way, why = ("fast", "") if (found := obstacle(stream)) is None else ("general", found)
    except Exception:
        FastStreams.is_on = False
        way, why = "general", "error"
        logger.exception("Answers are streamed the general, slower way from now on, because the short way failed")
    services().streams[way, why] += 1


def note_fast() -> None:
    """Count an answer that needs no way, because all of it has come with its head."""
    services().streams["fast", ""] += 1


def end(stream: Any) -> None:
    """Forget an answer that has ended: the connection to its provider may stay, and would keep it in memory."""
    if stream.upstream is not None:
        stream.upstream.way = None
        stream.upstream = None


def obstacle(stream: Any) -> str | None:
    """Put an answer on the short way; or return why it takes the general one."""
    context = stream.context
    if not FastStreams.is_on:
        return "off" if FastStreams.fits else "unfit"
    if context.options.store_streamed_bodies:
        return "layers"
    if stream.server_state != stream.state_stream_response_body:
        # All of it has come with its head.
        return None
    if context.layers[-1] is not stream:
        return "layers"
    if stream.client_state != stream.state_done:
        return "request_under_way"
    depth = len(context.layers) - 2
    http = context.layers[depth]
    above = http.connections[context.server].context.layers[depth + 1 :]
    client, kinds = above[-1], [type(layer) for layer in above]
    if isinstance(client, Http2Client):
        return "http2_upstream"
    if kinds not in ([HttpClient, Http1Client], [ServerTLSLayer, HttpClient, Http1Client]):
        return "layers"
    if client.state != client.read_body or not context.server.connected:
        # It has ended meanwhile, or its connection has.
        return None
    tls = Decryption(above[0].tls) if isinstance(above[0], ServerTLSLayer) else None
    return start(stream, http.connections[context.client], client, tls, encrypting(context.layers[:depth], context.client))


def start(stream: Any, server: Any, client: Any, tls: Any, tls_layers: list[Any] | None) -> str | None:
    """Put an answer on the short way, given mitmproxy's layers on either side; or return why it takes the general one."""
    handler = connection_handlers().get(stream.context.client.id)
    if tls_layers is None or handler is None:
        return "layers"
    comes_by = entry_of(handler, stream.context.server)
    if comes_by is None:
        # A connection from before it was turned on.
        return "off"
    writer = handler.transports[stream.context.client].writer
    if isinstance(server, Http2Server):
        send = http2_sender(writer, tls_layers, server, stream.stream_id)
    else:
        is_chunked = "chunked" in stream.flow.response.headers.get("transfer-encoding", "").lower()
        if is_chunked and type(stock_reader(client.body_reader)) is not ChunkedReader:
            return "reframed"
        send = plain_sender(writer, tls_layers, is_chunked)
    stream.upstream = comes_by
    comes_by.way = Route(stream, handler, client, comes_by, tls, send, services().stream_reads)
    return None


def encrypting(layers: list[Any], client: Any) -> list[Any] | None:
    """Return the layers below a stream's that encrypt for its client, the innermost first; None if there are others unknown."""
    found: list[Any] = []
    for layer in reversed(layers):
        if isinstance(layer, ClientTLSLayer):
            found.append(layer)
        elif isinstance(layer, HttpLayer):
            # That of a CONNECT, inside of which the answer is sent.
            if not isinstance(layer.connections.get(client), Http1Server):
                return None
        elif isinstance(layer, ServerTLSLayer):
            # Stands there for a server that is never dialled by this connection.
            if layer.conn is client:
                return None
        elif not isinstance(layer, HttpStream | modes.HttpProxy):
            return None
    return found
