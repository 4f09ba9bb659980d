"""The short way of a streamed answer: from the provider's socket past the tap to the client's, past mitmproxy's event path.

Only what a piece of an answer needs is done: its framing is checked, the tap reads it, and the same bytes are written to the
client. Whatever else comes (the end, an error, half a chunk, a client that reads slowly) goes mitmproxy's own way, which is in the
same state as if the pieces had come by it. So nothing is decided here, and nothing is held.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from h11._readers import ChunkedReader, ContentLengthReader
from mitmproxy.proxy.layers.http import HttpStream, ResponseData

from runtime.streams.chunk_framing import read_only_chunk, read_pieces, stock_reader
from runtime.streams.entry import Entry
from runtime.streams.http2_frames import data_frame
from runtime.streams.tls_records import MAX_RECORD_BYTES, Decryption, encryption


def plain_sender(writer: asyncio.StreamWriter, tls_layers: Sequence[Any], is_framed: bool) -> Callable[[bytes, bytes], None]:
    """Return what sends a piece to a client of HTTP/1, given its payload and its framed bytes; TLS from the inside out."""
    write, encryptions = writer.transport.write, [encryption(layer) for layer in tls_layers]
    if not encryptions:
        return (lambda payload, framed: write(framed)) if is_framed else (lambda payload, framed: write(payload))

    def send(payload: bytes, framed: bytes) -> None:
        data = framed if is_framed else payload
        for encrypt in encryptions:
            data = encrypt(data)
        write(data)

    return send


def http2_sender(
    writer: asyncio.StreamWriter, tls_layers: Sequence[Any], server: Any, number: int
) -> Callable[[bytes, bytes], None]:
    """Return what sends a piece to a client of HTTP/2, as a part of its stream with this number."""
    write, connection = writer.transport.write, server.h2_conn
    encryptions = [encryption(layer) for layer in tls_layers]

    def send(payload: bytes, framed: bytes) -> None:
        data = data_frame(connection, number, payload)
        if data is None:
            data = b"".join([command.data for command in server._handle_event(ResponseData(number, payload))])
        else:
            # What our layer notes of a piece that mitmproxy sends.
            server.frame_credit.earn(len(payload))
            server.flow_control.add(number, len(payload))
        if data:
            for encrypt in encryptions:
                data = encrypt(data)
            write(data)

    return send


@dataclass(slots=True)
class Route:
    """The short way of one answer, for as long as it streams."""

    stream: HttpStream
    handler: Any
    """mitmproxy's handler of the client's connection."""
    client: Any
    """Its ``Http1Client`` of the provider."""
    entry: Entry
    """By which what the provider sends comes."""
    tls: Decryption | None
    """Decrypts what the provider sends; None where it does not encrypt."""
    send: Callable[[bytes, bytes], None]
    """Sends a piece to the client, given its payload and its framed bytes."""
    reads: Counter[str]
    """How often a read was ``carried``, or why it was not."""
    tap: Any = field(init=False)
    response: Any = field(init=False)
    streaming: Any = field(init=False)
    """The stream's state while its answer streams."""
    reading: Any = field(init=False)
    """The client's state meanwhile."""
    body: Any = field(init=False)
    """h11's reader of the answer's body."""
    is_chunked: bool = field(init=False)
    reader: Any = field(init=False)
    """The reader in which mitmproxy waits for the provider."""
    upstream: Any = field(init=False)
    transport: Any = field(init=False)
    protocol: Any = field(init=False)
    """asyncio's protocol of the client's connection, which knows whether the client is slow."""
    watchdog: Any = field(init=False)

    def __post_init__(self) -> None:
        transports, context = self.handler.transports, self.stream.context
        self.response = self.stream.flow.response
        self.tap = self.response.stream
        self.streaming, self.reading = self.stream.server_state, self.client.state
        self.body = stock_reader(self.client.body_reader)
        self.is_chunked = type(self.body) is ChunkedReader
        self.reader, self.upstream = transports[context.server].reader, transports[context.server].writer
        writer = transports[context.client].writer
        self.transport, self.protocol = writer.transport, writer._protocol
        self.watchdog = self.handler.timeout_watchdog

    def carry(self, data: bytes) -> bytes:
        """Carry what has come from the provider to the client; return what of it mitmproxy has to read."""
        if (why := self.obstacle()) is not None:
            self.reads[why] += 1
            return data
        if self.tls is not None:
            self.carry_records(self.tls, data)
            return b""
        if self.is_chunked and (only := read_only_chunk(self.body, data)) is not None:
            # Nearly always a read brings one chunk.
            self.forward(only, data)
            return b""
        if (found := self.read_more(data)) is None:
            return data
        payload, framed, end = found
        self.forward(payload, framed)
        return b"" if end == len(data) else data[end:]

    def obstacle(self) -> str | None:
        """Return why nothing can be carried now; None if nothing is in the way."""
        waiter = self.reader._waiter
        if waiter is None or waiter.done():
            # mitmproxy is not done with what came before: it may be waiting for a slow client.
            return "busy"
        stream, client = self.stream, self.client
        if stream.server_state is not self.streaming or client.state is not self.reading or stream._paused is not None:
            return "ended"
        if client.buf._data or self.response.stream is not self.tap:
            return "part"
        # More than its transport wants to have unsent, and no less since then than is worth going on for.
        if self.protocol._paused or self.transport.is_closing():
            return "slow_client"
        return None

    def read(self, data: bytes) -> tuple[bytes, bytes, int] | None:
        """Return pieces as payload and as they were framed, and up to where; None if none is plain.

        The rest is the answer's end, or an error, or half a line.
        """
        if self.is_chunked and (only := read_only_chunk(self.body, data)) is not None:
            return only, data, len(data)
        return self.read_more(data)

    def read_more(self, data: bytes) -> tuple[bytes, bytes, int] | None:
        """Return the same where it is not one whole chunk."""
        if self.is_chunked:
            if (found := read_pieces(self.body, data)) is not None:
                return found
        elif type(self.body) is not ContentLengthReader:
            return data, data, len(data)
        elif len(data) < self.body._remaining:
            self.body._remaining -= len(data)
            return data, data, len(data)
        self.reads["rest"] += 1
        return None

    def forward(self, payload: bytes, framed: bytes) -> None:
        """Let the tap read pieces, and send them to the client."""
        self.reads["carried"] += 1
        self.tap(payload)
        self.send(payload, framed)
        self.watchdog.last_activity = time.time()

    def carry_records(self, tls: Decryption, data: bytes) -> None:
        """Decrypt what has come and pass it on, small records together. What cannot be passed on mitmproxy finds in TLS."""
        tls.put(data)
        held: list[tuple[bytes, bytes]] = []
        size, is_all = 0, False
        while record := tls.peek():
            if (found := self.read(record)) is None:
                break
            payload, framed, end = found
            tls.skip(end)
            if held and size + len(framed) > MAX_RECORD_BYTES:
                self.forward_all(held)
                held, size = [], 0
            held.append((payload, framed))
            size += len(framed)
        else:
            if not (is_all := tls.waits()):
                # The end of TLS, or an error of it.
                self.reads["rest"] += 1
        if answer := tls.answer():
            # To a change of the keys.
            self.upstream.write(answer)
        if held:
            self.forward_all(held)
        if not is_all:
            self.entry.find_rest()

    def forward_all(self, pieces: list[tuple[bytes, bytes]]) -> None:
        """Forward what has come together, each part given as payload and as framed."""
        if len(pieces) == 1:
            self.forward(*pieces[0])
        else:
            self.forward(b"".join([payload for payload, _ in pieces]), b"".join([framed for _, framed in pieces]))
