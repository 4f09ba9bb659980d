"""A client, mitmproxy's own handler of its connection with our layers, and a provider, joined by memory and not by sockets.

What is real: the handler, asyncio's streams, the layers, TLS on either side, HTTP/2 of the client. What is not is the transport,
so that a test decides where bytes are cut and how far the handler has come when the next ones arrive.
"""

from __future__ import annotations

import asyncio
import ssl
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from mitmproxy.options import Options
from mitmproxy.proxy import layer
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server import SimpleConnectionHandler
from OpenSSL import SSL

from runtime.layers import GatewayHttpLayer
from runtime.network.client_tls import GatewayClientTLSLayer
from runtime.resources import release_memory
from runtime.streams import fast_streams
from support.server_records import ALERT, CLOSE_NOTIFY, DATA, ServerRecords

REQUEST = b'{"x":1}'
HIGH_WATER, BACKLOG = 64 << 10, 100 << 10
"""The most a client's transport wants to have unsent, and what it has while the client stalls."""


class MemorySocket:
    """Takes the options that the gateway sets on a connection."""

    def setsockopt(self, *option: Any) -> None:
        """Take an option."""


class MemoryTransport(asyncio.Transport):
    """One end of a connection as asyncio sees it; ``on_write`` gets what is written there."""

    def __init__(self, on_write: Callable[[bytes], None]) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2), "socket": MemorySocket()})
        self.on_write = on_write
        self.loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(loop=self.loop)
        self.protocol: Any = asyncio.StreamReaderProtocol(self.reader, loop=self.loop)
        self.waiting: list[tuple[str, Any]] = []
        self.unsent, self.paused, self.closing, self.ended, self.was_aborted = 0, False, False, False, False
        self.pauses = 0
        self.protocol.connection_made(self)
        self.writer = asyncio.StreamWriter(self, self.protocol, self.reader, self.loop)

    def arrive(self, what: str, argument: Any = b"") -> None:
        """Let ``data``, ``eof`` or ``lost`` arrive: the first two once the transport is read."""
        if what == "lost":
            self.waiting.clear()
            self.lose(argument)
            return
        self.waiting.append((what, argument))
        self.deliver()

    def deliver(self) -> None:
        """Hand on what has arrived, as long as the transport is read."""
        while self.waiting and not self.paused and not self.closing:
            what, argument = self.waiting.pop(0)
            if what == "data":
                self.protocol.data_received(argument)
            elif not self.protocol.eof_received():
                self.close()

    def lose(self, error: Exception | None) -> None:
        """End the connection."""
        if not self.ended:
            self.ended = self.closing = True
            self.loop.call_soon(self.protocol.connection_lost, error)

    def stall(self, is_slow: bool) -> None:
        """Let the other end stop reading, or go on."""
        if is_slow != bool(self.unsent):
            self.unsent = BACKLOG if is_slow else 0
            (self.protocol.pause_writing if is_slow else self.protocol.resume_writing)()

    def write(self, data: Any) -> None:
        if not self.closing:
            self.on_write(bytes(data))

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.lose(None)

    def abort(self) -> None:
        self.was_aborted = True
        self.lose(None)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        self.pauses += 1
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self.loop.call_soon(self.deliver)

    def is_reading(self) -> bool:
        return not self.paused

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return HIGH_WATER // 4, HIGH_WATER


class Tls:
    """The far end of a TLS connection."""

    def __init__(self, context: ssl.SSLContext, send: Callable[[bytes], None], received: Callable[[bytes], None], name: str | None):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_side=name is None, server_hostname=name)
        self.context, self.send, self.received, self.is_up = context, send, received, False
        self.records: ServerRecords | None = None
        """Makes the records that are sent from now on, in the place of Python's TLS."""

    def by_hand(self) -> ServerRecords:
        """Make records by hand from now on."""
        if self.records is None:
            self.records = ServerRecords(self.context, self.object)
        return self.records

    def feed(self, data: bytes) -> None:
        """Read what has come."""
        self.incoming.write(data)
        try:
            if not self.is_up:
                self.object.do_handshake()
                self.is_up = True
            while data := self.object.read(1 << 16):
                self.received(data)
        except (ssl.SSLWantReadError, ssl.SSLError):
            pass
        if self.outgoing.pending:
            self.send(self.outgoing.read())

    def encrypt(self, data: bytes) -> bytes:
        """Return data as a record."""
        if self.records is not None:
            return self.records.record(DATA, data)
        self.object.write(data)
        return self.outgoing.read()

    def ending(self) -> bytes:
        """Return the message that TLS ends with."""
        if self.records is not None:
            return self.records.record(ALERT, CLOSE_NOTIFY)
        try:
            self.object.unwrap()
        except ssl.SSLError:
            pass
        return self.outgoing.read()


async def settle() -> None:
    """Wait until nothing in this loop has anything left to do."""
    loop: Any = asyncio.get_running_loop()
    await asyncio.sleep(0)
    while loop._ready:  # noqa: ASYNC110 there is nothing that would set an event
        await asyncio.sleep(0)


class MemoryWire:
    """One client's connection, and the one to its provider. ``hooks`` are called for mitmproxy's by name."""

    def __init__(
        self,
        hooks: dict[str, Callable[..., None]],
        *,
        over: str = "HTTP/1.1",
        client_tls: bool = False,
        provider_tls: bool = False,
        server: ssl.SSLContext,
        trust: ssl.SSLContext,
        server_files: str,
    ) -> None:
        self.over, self.server, self.is_tls, self.files = over, server, provider_tls, server_files
        self.raw = bytearray()
        """What the client has received, in clear."""
        self.requests = bytearray()
        """What the provider has received, in clear."""
        self.writes = Counter[str]()
        """How often the gateway has written to its ``client`` and to the ``provider``."""
        self.logged: list[str] = []
        self.client = MemoryTransport(self._client_received)
        self.client_tls = Tls(trust, self._client_sent, self._client_read, "localhost") if client_tls else None
        self.provider: MemoryTransport | None = None
        self.provider_tls: Tls | None = None
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8")) if over == "HTTP/2" else None
        self.h2_seen: dict[int, dict[str, Any]] = {}
        self.ungiven = 0
        """Bytes of answers for which the HTTP/2 client has given no window yet."""
        self.gives_window = True
        own: dict[str, Callable[..., None]] = {
            "next_layer": self._next_layer,
            "tls_start_client": self._start_client_tls,
            "tls_start_server": self._start_server_tls,
            "client_connected": lambda client: fast_streams.enter(self.handler, client),
            "server_connected": lambda data: fast_streams.enter(self.handler, data.server),
        }
        self.handler: Any = SimpleConnectionHandler(
            self.client.reader, self.client.writer, options(), ProxyMode.parse("regular"), own | hooks
        )
        self.handler.log = self._log  # type: ignore[method-assign, unused-ignore]
        if self.h2 is not None:
            self.handler.client.alpn = b"h2"

    def _log(self, message: str, level: int = 20, exc_info: Any = None) -> None:
        self.logged.append(message + (traceback.format_exc() if exc_info else ""))

    def start(self, window: int = 65535) -> None:
        """Begin to serve the client, which as one of HTTP/2 takes ``window`` bytes of a stream at first."""
        self.task = asyncio.get_running_loop().create_task(self.handler.handle_client())
        if self.h2 is not None:
            self.h2.initiate_connection()
            self.h2.update_settings({4: window})
            self._client_sent(self.h2.data_to_send())

    async def open_connection(self, *_: Any, **__: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Stand in for asyncio's function of this name."""
        self.provider = MemoryTransport(self._provider_received)
        self.provider_tls = Tls(self.server, self._provider_sent, self.requests.extend, None) if self.is_tls else None
        return self.provider.reader, self.provider.writer

    # -- the client -----------------------------------------------------------------------------------------------------

    def ask(self, number: int) -> None:
        """Send the request of this number, from 0."""
        if self.h2 is not None:
            stream = 2 * number + 1
            self.h2_seen[stream] = {"status": None, "data": bytearray(), "ended": ""}
            head = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", f"/{number}")]
            self.h2.send_headers(stream, head)
            self.h2.send_data(stream, REQUEST, end_stream=True)
            self._client_sent(self.h2.data_to_send())
            return
        head1 = f"POST http://localhost/{number} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(REQUEST)}\r\n\r\n".encode()
        data = head1 + REQUEST
        if self.client_tls is not None:
            data = self.client_tls.encrypt(data)
        self._client_sent(data)

    def give_window(self) -> None:
        """Let the HTTP/2 client take more, as much as it has read."""
        if self.h2 is not None and self.ungiven:
            self.h2.increment_flow_control_window(self.ungiven)
            for stream, seen in self.h2_seen.items():
                if not seen["ended"]:
                    self.h2.increment_flow_control_window(self.ungiven, stream)
            self.ungiven = 0
            self._client_sent(self.h2.data_to_send())

    def _client_sent(self, data: bytes) -> None:
        if data:
            self.client.arrive("data", data)

    def _client_received(self, data: bytes) -> None:
        self.writes["client"] += 1
        if self.client_tls is not None:
            asyncio.get_running_loop().call_soon(self.client_tls.feed, data)
        else:
            self._client_read(data)

    def _client_read(self, data: bytes) -> None:
        self.raw += data
        if (h2 := self.h2) is None:
            return
        for got in h2.receive_data(data):
            seen = self.h2_seen.get(getattr(got, "stream_id", 0) or 0)
            if seen is None:
                continue
            if isinstance(got, ResponseReceived):
                seen["status"] = dict(got.headers).get(":status")  # type: ignore[call-overload]
            elif isinstance(got, DataReceived):
                seen["data"] += got.data
                self.ungiven += got.flow_controlled_length
            elif isinstance(got, StreamEnded | StreamReset):
                seen["ended"] = type(got).__name__
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: self._client_sent(h2.data_to_send()))
        if self.gives_window:
            loop.call_soon(self.give_window)

    # -- the provider ---------------------------------------------------------------------------------------------------

    def _provider_received(self, data: bytes) -> None:
        self.writes["provider"] += 1
        if self.provider_tls is not None:
            asyncio.get_running_loop().call_soon(self.provider_tls.feed, data)
        else:
            self.requests += data

    def _provider_sent(self, data: bytes) -> None:
        assert self.provider is not None
        self.provider.arrive("data", data)

    # -- mitmproxy's hooks ----------------------------------------------------------------------------------------------

    def _next_layer(self, nextlayer: layer.NextLayer) -> None:
        below, context = nextlayer.context.layers, nextlayer.context
        if not any(isinstance(x, modes.HttpProxy) for x in below):
            nextlayer.layer = modes.HttpProxy(context)
        elif self.client_tls is not None and not any(isinstance(x, GatewayClientTLSLayer) for x in below):
            nextlayer.layer = GatewayClientTLSLayer(context)
        else:
            nextlayer.layer = GatewayHttpLayer(context, HTTPMode.regular)

    def _start_client_tls(self, data: Any) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_file(self.files)
        context.use_privatekey_file(self.files)
        data.ssl_conn = SSL.Connection(context)
        data.ssl_conn.set_accept_state()

    def _start_server_tls(self, data: Any) -> None:
        data.ssl_conn = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        data.ssl_conn.set_connect_state()

    async def end(self) -> None:
        """Let the client leave, if it has not, and wait until the handler is done."""
        self.client.arrive("lost", None)
        self.client.stall(False)
        await settle()
        if not self.task.done():
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        release_memory.http_layers.pop(self.handler.client.id, None)


_options: list[Options] = []


def options() -> Options:
    """Return mitmproxy's options, with those of its add-ons that layers ask for."""
    if not _options:
        made = Options()
        for name, kind, default in (
            ("store_streamed_bodies", bool, False),
            ("connection_strategy", str, "lazy"),
            ("keep_host_header", bool, False),
            ("normalize_outbound_headers", bool, True),
            ("validate_inbound_headers", bool, True),
            ("http2_ping_keepalive", int, 0),
            ("proxyauth", str, ""),
            ("http3", bool, False),
            ("websocket", bool, True),
            ("rawtcp", bool, True),
            ("http_connect_send_host_header", bool, True),
            ("stream_large_bodies", str | None, None),
            ("body_size_limit", str | None, None),
        ):
            if name not in made:
                made.add_option(name, kind, default, "")
        _options.append(made)
    return _options[0]
