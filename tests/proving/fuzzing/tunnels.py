"""Tunnels: CONNECT in every form, to addresses in every spelling, with first messages for one server or another."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

from hypothesis import strategies as st

from proving.elsewhere import ELSEWHERE, Elsewhere
from proving.fuzzing.environment import Environment
from proving.fuzzing.hosts import NOTATIONS, notation
from proving.fuzzing.target import batches, target
from proving.fuzzing.testbed import KEY, SETTLE_TIMEOUT_S, Testbed
from support.harness import eventually, receive_until_silence

SILENCE_TIMEOUT_S = 0.3
"""Seconds of silence after which a message is taken for one that was not passed on, or not answered."""

INNOCENT = ("other.test", "github.com", "api.anthropic.com.other.test", "xapi.anthropic.com")
GUILTY = (
    *("api.anthropic.com", "API.Anthropic.COM", "api.anthropic.com.", "api.openai.com", "generativelanguage.googleapis.com"),
    *("files.denied.test", "FILES.DENIED.TEST", "openrouter.ai", "OpenRouter.AI", "chatgpt.com"),
)
"""Names of providers, of hosts that policy denies, and of model APIs that it does not govern."""

FORMS = (
    "CONNECT {} HTTP/1.1",
    "CONNECT {} HTTP/1.0",
    "CONNECT http://{}/ HTTP/1.1",
    "CONNECT //{} HTTP/1.1",
    "CONNECT user:x@{} HTTP/1.1",
    "CONNECT {}/v1/messages HTTP/1.1",
    "CONNECT {}?x HTTP/1.1",
    "CONNECT {}#x HTTP/1.1",
    "connect {} HTTP/1.1",
    "CONNECT  {} HTTP/1.1",
    "CONNECT {}\tHTTP/1.1",
    "CONNECT {} HTTP/2.0",
    "CONNECT {}:443 HTTP/1.1",
    "CONNECT {},127.0.0.1 HTTP/1.1",
)
FIELDS = (
    "Host: {}",
    "Host: api.anthropic.com:443",
    "Host: 127.0.0.1:1",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Upgrade: websocket",
    ":authority: x",
    "X-Forwarded-Host: api.anthropic.com",
)


@dataclass(frozen=True)
class Tunnel:
    """A CONNECT and what is said inside."""

    form: str
    fields: tuple[str, ...]
    host: str
    """However it is spelled."""
    port: Literal["elsewhere", "provider", "trap", "own"]
    message: Literal["TLS", "HTTP", "bytes"]
    name: str
    """The server that the message names, where it names one."""
    cuts: tuple[int, ...]
    """Where the message is cut, in hundredths of its length."""

    @property
    def may_pass(self) -> bool:
        """Return whether its bytes may reach the listed server."""
        return self.port == "elsewhere" and (self.message == "bytes" or self.name not in GUILTY)

    @property
    def must_pass(self) -> bool:
        """Return whether they must."""
        is_plain = (self.form, self.fields, self.host) == (FORMS[0], FIELDS[:1], ELSEWHERE)
        return is_plain and self.may_pass


@lru_cache(maxsize=1)
def elsewhere() -> Elsewhere:
    """Return the server, for as long as this process lives."""
    return Elsewhere()


spelled = st.builds(
    notation,
    st.just(0x7F000003),
    st.lists(st.sampled_from(NOTATIONS), min_size=4, max_size=4),
    st.integers(1, 4),
)
wrapped = st.sampled_from(
    ["[::ffff:127.0.0.3]", "[::127.0.0.3]", "[64:ff9b::127.0.0.3]", "[2002:7f00:3::]", "127.0.0.3.", "127.0.0.3..", "[127.0.0.3]"]
)
neighbours = st.sampled_from(["127.0.0.1", "127.0.0.2", "localhost", "0.0.0.0", "[::1]", "[::]", "127.0.0.3.1", "127.0.0.259"])
sizes = st.lists(st.integers(0, 100), max_size=3).map(sorted).map(tuple)
names = st.sampled_from(INNOCENT + GUILTY)
messages = st.sampled_from(["TLS", "HTTP", "bytes"])
tunnels = st.builds(
    Tunnel,
    st.sampled_from(FORMS) | st.just(FORMS[0]),
    st.lists(st.sampled_from(FIELDS), max_size=2).map(tuple) | st.just(FIELDS[:1]),
    st.one_of(spelled, wrapped, neighbours, st.just(ELSEWHERE), st.just(ELSEWHERE)),
    st.sampled_from(["elsewhere", "elsewhere", "elsewhere", "provider", "trap", "own"]),
    messages,
    names,
    sizes,
)
plain = st.builds(Tunnel, st.just(FORMS[0]), st.just(FIELDS[:1]), st.just(ELSEWHERE), st.just("elsewhere"), messages, names, sizes)
"""Tunnels to the listed server, of which those must pass whose message names nobody that is governed."""


def first_message(tunnel: Tunnel, session: str) -> bytes:
    """Return what is said first inside a tunnel: bytes that no other tunnel sends."""
    if tunnel.message == "bytes":
        return b"\x00" + session.encode()
    if tunnel.message == "HTTP":
        head = f"GET /{session} HTTP/1.1\r\nHost: {tunnel.name}\r\nx-api-key: {KEY}\r\nx-claude-code-session-id: {session}\r\n\r\n"
        return head.encode()
    outgoing, context = ssl.MemoryBIO(), ssl.create_default_context()
    context.check_hostname = False
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=tunnel.name.rstrip(".")).do_handshake()
    return outgoing.read()


def sent(testbed: Testbed, tunnel: Tunnel, said: bytes) -> bytes:
    """Ask for the tunnel and say it inside; return all that comes back, the answer to the CONNECT first."""
    ports = {
        "elsewhere": elsewhere().port,
        "provider": testbed.provider.port,
        "trap": testbed.trap.port,
        "own": testbed.gateway.port,
    }
    authority = f"{tunnel.host}:{ports[tunnel.port]}"
    lines = [tunnel.form.format(authority), *(f.format(authority) for f in tunnel.fields), "", ""]
    with socket.create_connection(("127.0.0.1", testbed.gateway.port), timeout=20) as conn:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.sendall("\r\n".join(lines).encode())
        answer = b""
        with contextlib.suppress(OSError):
            answer = receive_until_silence(conn, 20 if tunnel.must_pass else 2, b"\r\n\r\n")
            if not answer.split(b"\r\n")[0].endswith(b"established") and b" 200" not in answer.split(b"\r\n")[0]:
                return answer
            at = 0
            for cut in (*(len(said) * c // 100 for c in tunnel.cuts), len(said)):
                conn.sendall(said[at:cut])
                at = cut
            conn.settimeout(20 if tunnel.must_pass else SILENCE_TIMEOUT_S)
            while said not in answer and (got := conn.recv(65536)):
                answer += got
    return answer


def relayed(testbed: Testbed) -> tuple[int, int]:
    """Return how many tunnels to the listed server are on record as relayed, and the bytes that they carried to it."""
    rows = testbed.gateway.rows(
        f"SELECT * FROM connections WHERE host = '{ELSEWHERE}' AND port = {elsewhere().port} AND request_bytes > 0"
    )
    return len(rows), sum(r["request_bytes"] for r in rows)


@target(
    "egress",
    "a tunnel's bytes reach the address that policy lists, whole and on record, or nobody; none reaches one that is named inside",
    batches(tunnels | plain),
    quick=4,
)
def tunnelled(environment: Environment, example: list[Tunnel]) -> int:
    testbed, server = environment.testbed, elsewhere()
    before, (records, sizes) = len(server.received), relayed(testbed)
    said: dict[int, bytes] = {}

    def play(number: int, session: str) -> bytes:
        said[number] = first_message(example[number], session)
        return sent(testbed, example[number], said[number])

    answers, _ = testbed.play([partial(play, number) for number in range(len(example))])
    arrived = [bytes(got) for got in server.received[before:]]
    for number, tunnel in enumerate(example):
        reached = [got for got in arrived if got.startswith(said[number][:60])]
        assert tunnel.may_pass or not reached, f"{tunnel} reached a server that it may not: {reached[0][:100]!r}"
        if tunnel.must_pass:
            assert reached == [said[number]], f"{tunnel} did not arrive as it was sent, but as {reached}"
            assert answers[number].endswith(said[number]), f"{tunnel} was answered {answers[number][-100:]!r}"
    whole = [got for got in arrived if got]
    wanted = (records + len(whole), sizes + sum(map(len, whole)))
    assert eventually(lambda: relayed(testbed) == wanted or None, SETTLE_TIMEOUT_S), "not every tunnel is on record"
    return len(example)
