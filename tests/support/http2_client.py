"""A client that speaks HTTP/2 inside CONNECT and TLS: one call, or many at once on one connection."""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset

from support.harness import PROVIDER, VK, WAIT_S, Gateway, Reply, ask, receive

LEFT_PATH = "/v1/messages?beta=true"
"""What calls ask for whose client leaves, so that their provider can wait for that."""


def connect(gw: Gateway, host: str = PROVIDER) -> tuple[ssl.SSLSocket, H2Connection]:
    """Open an HTTP/2 connection to a host through the gateway."""
    raw = socket.create_connection(("127.0.0.1", gw.port), timeout=WAIT_S)
    raw.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
    assert b" 200 " in raw.recv(4096)
    trust = ssl.create_default_context(cafile=str(gw.ca))
    trust.set_alpn_protocols(["h2"])
    tls = trust.wrap_socket(raw, server_hostname=host)
    h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
    h2.initiate_connection()
    return tls, h2


def request_headers(path: str = "/v1/messages", host: str = PROVIDER, key: str = VK) -> list[tuple[str, str]]:
    """Return the headers of a model call."""
    return [(":method", "POST"), (":scheme", "https"), (":authority", host), (":path", path), ("x-api-key", key)]


def post(
    gw: Gateway,
    body: bytes | None = None,
    path: str = "/v1/messages",
    host: str = PROVIDER,
    key: str = VK,
    headers: tuple[tuple[str, str], ...] = (),
    method: str = "POST",
) -> Reply:
    """Make one call on a connection of its own; the body is sent only as far as flow control lets it without waiting."""
    tls, h2 = connect(gw, host)
    with tls:
        body = ask() if body is None else body
        h2.send_headers(1, [(":method", method), *request_headers(path, host, key)[1:], *headers])
        h2.send_data(1, body[: h2.max_outbound_frame_size], end_stream=len(body) <= h2.max_outbound_frame_size)
        status, answer = 0, b""
        fields: dict[str, str] = {}
        while True:
            tls.sendall(h2.data_to_send())
            received = tls.recv(65536)
            if not received:
                raise AssertionError("the connection was closed before the answer had ended")
            for event in h2.receive_data(received):
                match event:
                    case ResponseReceived():
                        fields = decoded(event)
                        status = int(fields.pop(":status"))
                    case DataReceived():
                        answer += event.data
                    case StreamEnded():
                        return Reply(status, fields, answer)
                    case StreamReset():
                        raise AssertionError(f"the stream was reset: {event.error_code}")


def leave_once_answered(tls: ssl.SSLSocket, h2: H2Connection) -> None:
    """Make a call and reset its stream when the first bytes of its answer have come."""
    stream = h2.get_next_available_stream_id()
    h2.send_headers(stream, request_headers())
    h2.send_data(stream, ask(), end_stream=True)
    tls.sendall(h2.data_to_send())
    while not any(isinstance(event, DataReceived) for event in h2.receive_data(tls.recv(65536))):
        tls.sendall(h2.data_to_send())
    h2.reset_stream(stream, ErrorCodes.CANCEL)
    tls.sendall(h2.data_to_send())


def ask_again(tls: ssl.SSLSocket, h2: H2Connection, key: str = VK) -> str:
    """Make a call on a connection that has had others, and return its status."""
    stream = h2.get_next_available_stream_id()
    h2.send_headers(stream, request_headers(key=key))
    h2.send_data(stream, ask(), end_stream=True)
    while True:
        tls.sendall(h2.data_to_send())
        for event in h2.receive_data(tls.recv(65536)):
            if isinstance(event, ResponseReceived) and event.stream_id == stream:
                return decoded(event)[":status"]


def decoded(event: ResponseReceived) -> dict[str, str]:
    """Return an answer's headers as text, which h2 makes of them though its annotations say bytes."""
    return {str(name): str(value) for name, value in event.headers}


def many(gw: Gateway, calls: int, at_once: int) -> Counter[str]:
    """Count how calls ended, by status; each fifth stream, which asks for ``LEFT_PATH``, is reset while its answer comes."""
    tls, h2 = connect(gw)
    ended: Counter[str] = Counter()
    status: dict[int, str] = {}
    live: set[int] = set()
    to_leave: set[int] = set()
    begun = 0
    while begun < calls or live:
        while begun < calls and len(live) < at_once:
            stream = h2.get_next_available_stream_id()
            is_left = begun % 5 == 0
            h2.send_headers(stream, request_headers(LEFT_PATH if is_left else "/v1/messages"))
            h2.send_data(stream, ask(), end_stream=True)
            live.add(stream)
            if is_left:
                to_leave.add(stream)
            begun += 1
        tls.sendall(h2.data_to_send())
        for event in h2.receive_data(tls.recv(65536)):
            match event:
                case ResponseReceived():
                    status[event.stream_id] = decoded(event)[":status"]
                    if event.stream_id in to_leave and event.stream_id in live and not h2.streams[event.stream_id].closed:
                        h2.reset_stream(event.stream_id)
                        live.discard(event.stream_id)
                        ended["left"] += 1
                case DataReceived() if event.stream_id in live:
                    h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case StreamEnded() | StreamReset() if event.stream_id in live:
                    ended[status.get(event.stream_id, "reset")] += 1
                    live.discard(event.stream_id)
    tls.close()
    return ended


def at_once(
    gw: Gateway, bodies: list[bytes], key: str = VK, on_status: Callable[[Counter[str]], None] | None = None
) -> Counter[str]:
    """Make all calls on one connection before any has been answered, and count how they ended, by status.

    ``on_status`` is shown the count so far whenever an answer begins.
    """
    tls, h2 = connect(gw)
    ended: Counter[str] = Counter()
    unsent: dict[int, bytes] = {}
    for body in bodies:
        stream = h2.get_next_available_stream_id()
        h2.send_headers(stream, request_headers(key=key))
        unsent[stream] = body
    live = set(unsent)
    with tls:
        while live:
            send_bodies(h2, unsent)
            tls.sendall(h2.data_to_send())
            for event in h2.receive_data(tls.recv(65536)):
                match event:
                    case ResponseReceived():
                        ended[decoded(event)[":status"]] += 1
                        if on_status:
                            on_status(ended)
                    case DataReceived():
                        h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    case StreamEnded() | StreamReset():
                        live.discard(event.stream_id)
    return ended


def send_bodies(h2: H2Connection, unsent: dict[int, bytes]) -> None:
    """Send of each body as much as flow control allows now, and keep the rest."""
    for stream in list(unsent):
        while stream in unsent:
            body = unsent[stream]
            room = min(h2.local_flow_control_window(stream), h2.max_outbound_frame_size)
            if room <= 0:
                break
            h2.send_data(stream, body[:room], end_stream=len(body) <= room)
            unsent[stream] = body[room:]
            if len(body) <= room:
                del unsent[stream]


def statuses(
    gw: Gateway,
    body: bytes,
    trailers: tuple[tuple[bytes, bytes], ...] = (),
    streams: int = 1,
    fields: tuple[tuple[bytes, bytes], ...] = (),
    **pseudo: bytes,
) -> int | set[int | None] | None:
    """Return the status of a request that is sent as it is, however wrong; of several side by side, the set of theirs.

    It says nothing of its body's length. ``pseudo`` are its fields that begin with a colon; None stands for an error of
    the protocol.
    """
    known = {"method": b"POST", "scheme": b"https", "authority": PROVIDER.encode(), "path": b"/v1/messages"} | pseudo
    trust = ssl.create_default_context(cafile=str(gw.ca))
    trust.set_alpn_protocols(["h2"])
    client = H2Connection(H2Configuration(header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False))
    client.initiate_connection()
    head = [*((b":" + n.encode(), v) for n, v in known.items()), *fields, (b"x-api-key", VK.encode())]
    for number in range(1, 2 * streams, 2):
        client.send_headers(number, head, end_stream=not body)
        if body:
            client.send_data(number, body, end_stream=not trailers)
        if trailers:
            client.send_headers(number, trailers, end_stream=True)
    answers: list[int | None] = []
    with gw.raw() as conn:
        conn.sendall(f"CONNECT {PROVIDER}:443 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        receive(conn, b"\r\n\r\n")
        with trust.wrap_socket(conn, server_hostname=PROVIDER) as tls:
            tls.sendall(client.data_to_send())
            while len(answers) < streams and (data := tls.recv(65536)):
                for event in client.receive_data(data):
                    if isinstance(event, ResponseReceived):
                        answers.append(int(dict(event.headers)[b":status"]))
                    if isinstance(event, StreamReset | ConnectionTerminated):
                        answers += [None] * streams
    return answers[0] if streams == 1 else set(answers)
