"""HTTP/2 inside a tunnel: pseudo-headers, lengths and trailers that HTTP/1 behind the gateway cannot express."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import partial
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from hypothesis import strategies as st

from proving.fuzzing import requesttext, wire
from proving.fuzzing.environment import Environment
from proving.fuzzing.target import batches, target
from proving.fuzzing.testbed import KEYS, Testbed
from support.harness import PROVIDER, ask

Field = tuple[bytes, bytes]

PSEUDO: dict[bytes, list[bytes]] = {
    b":method": [*(b"POST",) * 6, b"GET", b"post", b"CONNECT", b"", b"P OST", b"POST\r\nx: y", b"\xff"],
    b":scheme": [*(b"https",) * 6, b"http", b"HTTPS", b"ftp", b"", b"https://x", b"\xff"],
    b":authority": [
        *(b"api.anthropic.com",) * 6,
        b"127.0.0.1:{trap}",
        b"evil.test",
        b"",
        b"a b",
        b"a\r\nx: y",
        b"\xff",
        b"[",
        b"u@api.anthropic.com",
    ],
    b":path": [
        *(b"/v1/messages",) * 6,
        *requesttext.PATHS,
        b"",
        b"v1",
        b"/v1/messages HTTP/1.1\r\nx: y",
        b"http://evil.test/v1/messages",
        b"/a b",
    ],
}
FIELDS: list[Field] = [
    *requesttext.FIELDS,
    *((b"transfer-encoding", v) for v in (b"chunked", b"identity", b"\xff")),
    *((b"content-length", v) for v in (b"0", b"3", b"99999", b"-1", b"\xff", b"132")),
    *((b"host", v) for v in (b"evil.test", b"api.anthropic.com", b"\xff", b"127.0.0.1:{trap}")),
    *((n, b"1") for n in (b"X-Upper", b":late", b":status", b":protocol", b"x\r\ny", b"x:y")),
    *((b"cookie", v) for v in (b"a=1", b"b=2")),
    (b"x-a", b"1\r\nx-api-key: 2"),
]


@dataclass(frozen=True)
class Stream:
    """One request of a connection."""

    pseudo: tuple[Field, ...]
    fields: tuple[Field, ...]
    late: bool
    """Pseudo-headers after the others."""
    key: str
    trailers: tuple[Field, ...]
    reset: bool


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Return a request, valid or not."""
    pseudo = [(name, draw(st.sampled_from(values))) for name, values in PSEUDO.items()]
    match draw(st.sampled_from(["whole"] * 7 + ["less", "more", "order"])):
        case "less":
            pseudo.pop(draw(st.integers(0, 3)))
        case "more":
            pseudo.append(
                draw(st.sampled_from([*pseudo, (b":authority", b"evil.test"), (b":protocol", b"websocket"), (b":x", b"y")]))
            )
        case "order":
            pseudo.reverse()
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=3))
    trailers = draw(st.sampled_from([(), (), (), ((b"x-api-key", b"{key}"),), ((b":path", b"/x"),), ((b"x-t", b"\xff\r\n"),)]))
    late, reset = draw(st.integers(0, 9)) == 9, draw(st.integers(0, 9)) == 9
    return Stream(tuple(pseudo), tuple(fields), late, draw(st.sampled_from(["vk-soft", "vk-soft", "vk-hard", ""])), trailers, reset)


def sent(testbed: Testbed, streams: list[Stream], _: str) -> bytes:
    """Send streams over one connection; return their answers in the form of HTTP/1."""
    with wire.open_tunnel(testbed, f"{PROVIDER}:443") as conn:
        trust = ssl.create_default_context(cafile=str(testbed.gateway.ca))
        trust.set_alpn_protocols(["h2"])
        with trust.wrap_socket(conn, server_hostname=PROVIDER) as tls:
            assert tls.selected_alpn_protocol() == "h2"
            tls.settimeout(wire.SILENCE_TIMEOUT_S)
            return exchanged(testbed, tls, streams)


def exchanged(testbed: Testbed, tls: ssl.SSLSocket, streams: list[Stream]) -> bytes:
    """Return everything received on a connection until all streams have ended, or nothing more comes."""
    config = h2.config.H2Configuration(header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False)
    client = h2.connection.H2Connection(config)
    client.initiate_connection()
    answers: dict[int, bytes] = {}
    open_ = 0
    try:
        for stream in streams:
            body = ask()
            filled = {
                b"{key}": KEYS.get(stream.key, "").encode(),
                b"{trap}": b"%d" % testbed.trap.port,
                b"{port}": b"%d" % testbed.provider.port,
            }
            filled[b"{own}"] = b"%d" % testbed.gateway.port
            own = [(b"x-claude-code-session-id", testbed.session().encode())] + (
                [(b"x-api-key", filled[b"{key}"])] if stream.key else []
            )
            fields = [(full(n, filled), full(v, filled)) for n, v in stream.fields]
            pseudo = [(n, full(v, filled)) for n, v in stream.pseudo]
            number = client.get_next_available_stream_id()
            client.send_headers(number, [*own, *fields, *pseudo] if stream.late else [*pseudo, *own, *fields])
            client.send_data(number, body, end_stream=not stream.trailers and not stream.reset)
            if stream.trailers:
                client.send_headers(number, [(n, full(v, filled)) for n, v in stream.trailers], end_stream=True)
            elif stream.reset:
                client.reset_stream(number)
                continue
            open_ += 1
        tls.sendall(client.data_to_send())
        while open_ > 0 and (data := tls.recv(65536)):
            for event in client.receive_data(data):
                open_ -= took(client, event, answers)
            tls.sendall(client.data_to_send())
    except (OSError, h2.exceptions.H2Error, ValueError):
        # Either side may end the connection over a protocol error.
        pass
    return b"".join(answers.values())


def took(client: h2.connection.H2Connection, event: Any, answers: dict[int, bytes]) -> int:
    """Note an event; return how many streams it ends."""
    if isinstance(event, h2.events.ResponseReceived):
        fields = dict(event.headers)
        head = b"".join(n + b": " + v + b"\r\n" for n, v in event.headers if not n.startswith(b":"))
        answers[event.stream_id] = b"HTTP/1.1 " + fields[b":status"] + b" X\r\n" + head + b"\r\n"
    elif isinstance(event, h2.events.DataReceived):
        answers[event.stream_id] = answers.get(event.stream_id, b"") + event.data
        client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    elif isinstance(event, h2.events.ConnectionTerminated):
        return 1 << 20
    return isinstance(event, h2.events.StreamEnded | h2.events.StreamReset)


def full(text: bytes, words: dict[bytes, bytes]) -> bytes:
    """Return a text with its words filled in."""
    for word, value in words.items():
        text = text.replace(word, value)
    return text


@target(
    "HTTP/2",
    "refused, or forwarded as one request every provider reads alike",
    batches(st.lists(streams(), min_size=1, max_size=3)),
    quick=5,
)
def odd_streams(environment: Environment, example: list[list[Stream]]) -> int:
    testbed = environment.testbed
    testbed.play([partial(sent, testbed, connection) for connection in example])
    return sum(len(connection) for connection in example)
