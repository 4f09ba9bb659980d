"""Requests as bytes: lines, headers, lengths and targets that two readers might read in two ways."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from hypothesis import strategies as st

from proving.fuzzing import wire
from proving.fuzzing.environment import Environment
from proving.fuzzing.requesttext import CHUNKS, ENDS, FIELDS, FRAMING, HOSTS, METHODS, ORIGINS, PATHS, VERSIONS
from proving.fuzzing.target import batches, target
from proving.fuzzing.testbed import KEYS, Testbed
from support.harness import ask


@dataclass(frozen=True)
class Request:
    """A request in parts; ``{...}`` in them is filled in when it is sent."""

    line: tuple[bytes, bytes, bytes]
    hosts: tuple[bytes, ...]
    fields: tuple[tuple[bytes, bytes, bytes], ...]
    """Name, value and line end of each."""
    framing: tuple[bytes, ...]
    chunks: bytes
    key: str
    tail: bytes
    """What follows on the same connection."""
    way: str


fields = st.tuples(st.sampled_from(FIELDS), st.sampled_from(ENDS)).map(lambda x: (*x[0], x[1]))
targets = st.one_of(
    st.sampled_from(PATHS),
    st.sampled_from(PATHS),
    st.tuples(st.sampled_from(ORIGINS), st.sampled_from(PATHS)).map(b"".join),
    st.sampled_from([b"127.0.0.1:{trap}", b"api.anthropic.com:443", b"localhost:{port}", b"x", b"", b"\xff"]),
)
requests = st.builds(
    Request,
    st.tuples(st.sampled_from(METHODS), targets, st.sampled_from(VERSIONS)),
    st.lists(st.sampled_from(HOSTS), max_size=2).map(tuple) | st.just((b"localhost",)),
    st.lists(fields, max_size=4).map(tuple),
    st.sampled_from(FRAMING),
    st.sampled_from(CHUNKS),
    st.sampled_from(["vk-soft", "vk-soft", "vk-hard", "vk-off", ""]),
    st.sampled_from(
        [
            b"",
            b"",
            b"",
            b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nx-api-key: {key}\r\n\r\n",
            b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: {key}\r\nContent-Length: {n}\r\n\r\n{body}",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
            b"\r\n\r\n",
            b"\x16\x03\x01\x00\x05hello",
            b"\x00" * 50,
        ]
    ),
    st.sampled_from(["port", "port", "port", "TLS", "TLS", "cleartext in a tunnel", "bare"]),
)


def written(request: Request, testbed: Testbed, session: str) -> bytes:
    """Return the bytes of a request."""
    body = ask(session)
    filled = {b"port": testbed.provider.port, b"trap": testbed.trap.port, b"own": testbed.gateway.port, b"n": len(body)}
    words = {b"{%s}" % k: b"%d" % v for k, v in filled.items()}
    words |= {b"{key}": KEYS.get(request.key, "").encode(), b"{n:x}": b"%x" % len(body), b"{body}": body}

    def full(text: bytes) -> bytes:
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    lines = [b" ".join(request.line), b"x-claude-code-session-id: " + session.encode(), b"connection: close"]
    lines += [b"Host: " + host for host in request.hosts]
    head = b"".join(full(line) + b"\r\n" for line in lines)
    head += b"x-api-key: " + words[b"{key}"] + b"\r\n" if request.key else b""
    head += b"".join(full(name) + b": " + full(value) + end for name, value, end in request.fields)
    head += b"".join(full(line) + b"\r\n" for line in request.framing)
    chunked = any(b"chunked" in line for line in request.framing)
    return head + b"\r\n" + (full(request.chunks) if chunked else body if request.framing else b"") + full(request.tail)


def sent(testbed: Testbed, request: Request, session: str) -> bytes:
    """Send it; return all that comes back."""
    data = written(request, testbed, session)
    match request.way:
        case "TLS":
            return wire.send_tunnelled(testbed, data, whole=False)
        case "cleartext in a tunnel":
            return wire.send_tunnelled(testbed, data, whole=False, tls=False)
        case "bare":
            return wire.send_tunnelled(testbed, data, whole=False, target="example.invalid:80", tls=False)
    return wire.send_plain(testbed, data, whole=False)


@target(
    "requests",
    "refused, or forwarded as every provider would read them; nothing else is dialled",
    batches(requests),
    quick=8,
)
def odd_requests(environment: Environment, example: list[Request]) -> int:
    testbed = environment.testbed
    testbed.play([partial(sent, testbed, request) for request in example])
    return len(example)
