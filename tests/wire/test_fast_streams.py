"""Answers on the short way come as the provider sent them and are charged alike, and so they are on the general way.

One gateway each: a provider in clear and one behind TLS on the short way, and one that leaves all to mitmproxy.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from h2.events import DataReceived, StreamEnded

from support import http2_client
from support.certificates import server_context
from support.fake_provider import FakeProvider, Peer, Seen, event, sse, streamed
from support.harness import ADDONS, GENERAL_WAY, VK, WAIT_S, Gateway, Reply, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire

TEXT = b"".join(sse())
FULL_PRICE_NANO = 1_400_000
CHUNKED, WITH_LENGTH, UNTIL_CLOSE = "transfer-encoding: chunked", f"content-length: {len(TEXT)}", "connection: close"

EDGE_BYTES = 30
"""More than a chunk's size and its line ends, or the last chunk."""

LONG = [
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x" * (n * 1000 % 77_777)}) for n in range(1, 400)
]
"""Fifteen megabytes in pieces of up to 78 KB."""

MOST_KEPT_MB = 8
"""More than the gateway keeps of an answer that its client does not take, and half of that answer."""


@dataclass
class Subject:
    """A gateway and the provider behind it."""

    gateway: Gateway
    provider: FakeProvider
    name: str

    @property
    def is_fast(self) -> bool:
        return self.name != "general"

    def reads(self) -> dict[str, float]:
        """Return how reads on the short way went."""
        text = self.gateway.admin("/metrics").body.decode()
        return {r: float(n) for r, n in re.findall(r'sluicegate_stream_reads_total\{result="(\w+)"\} (\S+)', text)}

    def streams(self) -> dict[tuple[str, str], float]:
        """Return how many answers took which way, and why."""
        return self.ways("streams")

    def ways(self, what: str) -> dict[tuple[str, str], float]:
        """Return how many ``streams`` or ``request_ways`` there were, by way and reason."""
        text = self.gateway.admin("/metrics").body.decode()
        found = re.findall(rf'sluicegate_{what}_total\{{way="(\w+)",reason="(\w*)"\}} (\S+)', text)
        return {(way, reason): float(n) for way, reason, n in found}

    def memory(self) -> float:
        """Return the gateway's resident megabytes."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.gateway.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    def last(self, count: int) -> dict[str, object]:
        """Return the record of the last of so many calls."""
        return eventually(lambda: len(rows := self.gateway.rows()) == count and rows)[-1]


SUBJECTS, CLIENTS = ["fast", "fast-tls", "general"], ["HTTP/1.1", "HTTP/1.1 in TLS", "HTTP/2"]


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request, tmp_path_factory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("streams")
    context, pem = server_context(folder) if request.param == "fast-tls" else (None, None)
    with FakeProvider(tls=context) as provider:
        url = f"https://localhost:{provider.port}" if context else provider.url
        options = ["--set", f"fast_streams={str(request.param != 'general').lower()}"]
        options += ["--set", f"ssl_verify_upstream_trusted_ca={pem}"] if pem else []
        with Gateway(folder, policy_text(url), *options) as gw:
            yield Subject(gw, provider, request.param)


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[i : i + size] for i in range(0, len(body), size)]


def singly(body: bytes) -> list[bytes]:
    """Return a body of which each byte comes alone at its beginning and its end; how the rest is cut is tried without sockets."""
    return [*cut(body[:EDGE_BYTES], 1), body[EDGE_BYTES:-EDGE_BYTES], *cut(body[-EDGE_BYTES:], 1)]


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def payload_of(framed: bytes) -> bytes:
    """Return what chunks hold, up to the last one."""
    pieces, at = [], 0
    while size := int(framed[at : (begin := framed.index(b"\r\n", at))], 16):
        at = begin + 2 + size + 2
        pieces.append(framed[begin + 2 : at - 2])
    return b"".join(pieces)


END = b"0\r\n\r\n"
WHOLE = b"".join(map(chunk, sse())) + END

ANSWERS = {
    "a chunk for each event": (CHUNKED, [*map(chunk, sse()), END]),
    "all at once": (CHUNKED, [WHOLE]),
    "one byte at a time": (CHUNKED, singly(WHOLE)),
    "seven bytes at a time": (CHUNKED, cut(WHOLE, 7)),
    "one chunk in pieces": (CHUNKED, [*cut(chunk(TEXT), 100), END]),
    "chunks with extensions": (CHUNKED, [*(chunk(e, b";a=b") for e in sse()), END]),
    "chunks with trailers": (CHUNKED, [*map(chunk, sse()), b"0\r\nx-checksum: 1\r\n\r\n"]),
    "with a length": (WITH_LENGTH, sse()),
    "with a length, one byte at a time": (WITH_LENGTH, singly(TEXT)),
    "until the connection ends": (UNTIL_CLOSE, sse()),
    "until the connection ends, one byte at a time": (UNTIL_CLOSE, singly(TEXT)),
}
BROKEN = {
    "the connection ends between chunks": (CHUNKED, [*map(chunk, sse()[:4])]),
    "the connection ends within a chunk": (CHUNKED, [*map(chunk, sse()[:4]), b"ff\r\nevent: "]),
    "the connection ends before the length": (WITH_LENGTH, sse()[:4]),
    "a chunk without a size": (CHUNKED, [*map(chunk, sse()[:4]), b"what\r\n\r\n", END]),
    "a chunk that is longer than it says": (CHUNKED, [*map(chunk, sse()[:4]), b"3\r\neven\r\n", END]),
}


def script(framing: str, pieces: list[bytes], *, closes: bool = False):
    """Return an answer whose pieces are written one by one, each when the one before has most likely been read."""

    def run(peer: Peer, _: Seen) -> None:
        peer.head(200, "content-type: text/event-stream", framing)
        for piece in pieces:
            time.sleep(0.0005 if len(pieces) > 20 else 0.003)
            peer.send(piece)
        if closes or framing == UNTIL_CLOSE:
            # As TLS wants it: what only breaks off is an error there.
            peer.conn = peer.conn.unwrap() if isinstance(peer.conn, ssl.SSLSocket) else peer.conn
            peer.conn.shutdown(socket.SHUT_WR)
            raise OSError

    return run


def call(subject: Subject, name: str) -> Reply:
    """Ask as another kind of client at each gateway: each two of gateway, client and answer meet once."""
    over = CLIENTS[([*ANSWERS, *BROKEN].index(name) + SUBJECTS.index(subject.name)) % len(CLIENTS)]
    gw, body = subject.gateway, ask(stream=True)
    if over == "HTTP/2":
        return http2_client.post(gw, body)
    return gw.post(body) if over == "HTTP/1.1" else gw.proxied(body)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_comes_as_it_was_sent_and_costs_the_same(subject, name):
    framing, pieces = ANSWERS[name]
    before = subject.gateway.recorded()
    subject.provider.script = script(framing, pieces)
    reply = call(subject, name)
    assert (reply.status, reply.body) == (200, TEXT)
    record = subject.last(before + 1)
    assert (record["outcome"], record["cost_nano"]) == ("completed", FULL_PRICE_NANO)


@pytest.mark.parametrize("name", BROKEN)
def test_an_answer_that_breaks_is_noticed_and_charged_alike(subject, name):
    framing, pieces = BROKEN[name]
    before = subject.gateway.recorded()
    subject.provider.script = script(framing, pieces, closes=True)
    try:
        came = call(subject, name).body
    except (AssertionError, http.client.IncompleteRead, ConnectionError) as e:
        # Of HTTP/2, the client used here says no more than that the stream was reset.
        came = getattr(e, "partial", b"")
    assert came != TEXT
    assert TEXT.startswith(came)
    record = subject.last(before + 1)
    # The first usage came, and so did the text.
    assert (record["outcome"], record["input_tokens"], record["estimated"]) == ("failed", 100, 1)
    assert record["output_tokens"] >= 1


class StepByStep:
    """A provider that sends each piece of its answer only after the client has had the one before."""

    def __init__(self, framing: str, pieces: list[bytes]) -> None:
        self.framing, self.pieces, self.may_go_on = framing, pieces, threading.Semaphore(0)

    def __call__(self, peer: Peer, _: Seen) -> None:
        peer.head(200, "content-type: text/event-stream", self.framing)
        for piece in self.pieces:
            assert self.may_go_on.acquire(timeout=WAIT_S)
            peer.send(piece)

    def read(self, conn: socket.socket) -> bytes:
        """Read an answer from a client's connection, letting each piece be sent once all before has come."""
        data = receive(conn, b"\r\n\r\n")
        for piece in self.pieces:
            self.may_go_on.release()
            data += receive(conn, piece)
        return data


REQUEST = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("framing", "pieces", "carried"), [(CHUNKED, [*map(chunk, sse()), END], 6), (WITH_LENGTH, sse(), 5)], ids=["chunked", "length"]
)
def test_each_piece_goes_on_at_once_framed_as_it_came_and_the_connection_is_kept(subject, framing, pieces, carried):
    body, before, streams, requests = ask(stream=True), subject.reads(), subject.streams(), subject.ways("request_ways")
    with subject.gateway.raw() as conn:
        for _ in range(3):
            subject.provider.script = steps = StepByStep(framing, pieces)
            conn.sendall(REQUEST % (VK.encode(), len(body)) + body)
            head, _, came = steps.read(conn).partition(b"\r\n\r\n")
            assert framing.encode() in head.lower()
            assert came == b"".join(pieces)
    reads, way = subject.reads(), ("fast", "") if subject.is_fast else ("general", "off")
    assert reads.get("carried", 0) - before.get("carried", 0) == (3 * carried if subject.is_fast else 0)
    assert reads.get("rest", 0) - before.get("rest", 0) == (3 if subject.is_fast else 0)
    assert subject.streams()[way] - streams.get(way, 0) == 3
    assert set(subject.streams()) == {way}
    # The first one has to open the provider's connection.
    straight = subject.ways("request_ways").get(("fast", ""), 0) - requests.get(("fast", ""), 0)
    assert straight == (2 if subject.is_fast else 0)


def test_the_answer_to_a_large_request_takes_the_same_way(subject):
    """Its connection has another protocol of ours since its body arrived."""
    before = subject.streams()
    subject.provider.script = streamed(pause=0.01)
    assert subject.gateway.post(ask("x" * 400_000, stream=True)).body == TEXT
    way = ("fast", "") if subject.is_fast else ("general", "off")
    assert subject.streams()[way] - before.get(way, 0) == 1


def test_a_client_that_reads_slowly_holds_its_provider_back_and_loses_nothing(subject):
    """The gateway keeps some hundred KB of an answer at most: what a client does not read stays with its provider."""
    pieces = [chunk(x) for x in LONG]
    sent = 0

    def run(peer: Peer, _: Seen) -> None:
        nonlocal sent
        peer.head(200, "content-type: text/event-stream", CHUNKED)
        for piece in [*map(chunk, sse()[:2]), *pieces, *map(chunk, sse()[3:]), END]:
            peer.send(piece)
            sent += len(piece)

    subject.provider.script, body, before = run, ask(stream=True), subject.memory()
    with subject.gateway.raw() as conn:
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        conn.sendall(REQUEST % (VK.encode(), len(body)) + body)
        # Until nothing moves any more: then it is held back by all the buffers between.
        at = -1
        while at != sent:
            at = sent
            time.sleep(0.3)
        # How much waits in the system's buffers is the system's affair.
        assert subject.memory() - before < MOST_KEPT_MB
        came = bytearray()
        while not came.endswith(END):
            got = conn.recv(1 << 18)
            assert got, "the answer broke off"
            came += got
    payload = payload_of(bytes(came[came.index(b"104\r\n") :]))
    # Not compared by the assertion itself, which would take minutes to show how megabytes differ.
    is_whole = payload == b"".join([*sse()[:2], *LONG, *sse()[3:]])
    assert is_whole


def test_a_client_of_http2_that_gives_no_window_holds_its_provider_back_and_loses_nothing(subject):
    """Its socket is read all the time, so that nothing but its window can be what holds the answer up."""
    sent = 0

    def run(peer: Peer, _: Seen) -> None:
        nonlocal sent
        peer.head(200, "content-type: text/event-stream", CHUNKED)
        for piece in [*sse()[:2], *LONG, *sse()[3:]]:
            peer.send(chunk(piece))
            sent += len(piece)
        peer.end()

    subject.provider.script = run
    tls, h2 = http2_client.connect(subject.gateway)
    came, unread, is_over, before = bytearray(), 0, False, subject.memory()
    with tls:
        h2.send_headers(1, http2_client.request_headers())
        h2.send_data(1, ask(stream=True), end_stream=True)

        def read() -> None:
            nonlocal unread, is_over
            tls.sendall(h2.data_to_send())
            for got in h2.receive_data(tls.recv(1 << 16)):
                if isinstance(got, DataReceived):
                    came.extend(got.data)
                    unread += got.flow_controlled_length
                is_over = is_over or isinstance(got, StreamEnded)

        while len(came) < h2.local_settings.initial_window_size:
            read()
        at = -1
        while at != sent:
            at = sent
            time.sleep(0.3)
        assert subject.memory() - before < MOST_KEPT_MB
        while not is_over:
            if unread:
                h2.acknowledge_received_data(unread, 1)
                unread = 0
            read()
    is_whole = bytes(came) == b"".join([*sse()[:2], *LONG, *sse()[3:]])
    assert is_whole


def test_a_client_that_leaves_ends_the_call_at_its_provider(subject):
    before, gone = subject.gateway.recorded(), threading.Event()

    def run(peer: Peer, _: Seen) -> None:
        peer.head(200, "content-type: text/event-stream", CHUNKED)
        try:
            for piece in [*map(chunk, sse()[:3]), *[chunk(event("ping"))] * 100_000]:
                peer.send(piece)
                time.sleep(0.001)
        except OSError:
            gone.set()

    subject.provider.script, body = run, ask(stream=True)
    with subject.gateway.raw() as conn:
        conn.sendall(REQUEST % (VK.encode(), len(body)) + body)
        receive(conn, b"ping")
    assert gone.wait(WAIT_S)
    record = subject.last(before + 1)
    assert (record["outcome"], record["input_tokens"], record["estimated"]) == ("cancelled", 100, 1)


BROKEN_WAY = """
from runtime.streams.short_way import Route

carry = Route.carry


def fail_at_stop(self, data):
    if b"message_stop" in data:
        raise ValueError("a fault")
    return carry(self, data)


Route.carry = fail_at_stop
"""


def test_a_fault_of_the_short_way_cuts_the_answer_off_and_leaves_no_client_waiting(tmp_path):
    """Also where the connection's end is the answer's: there the client's own connection is reset."""
    addon, body = tmp_path / "broken_way.py", ask(stream=True)
    addon.write_text(BROKEN_WAY)
    scripts = (ADDONS / "gateway.py", addon)
    with (
        FakeProvider() as provider,
        Gateway(tmp_path, policy_text(provider.url), "--set", "fast_streams=true", scripts=scripts) as gw,
    ):
        for count, framing in enumerate([CHUNKED, UNTIL_CLOSE], 1):
            provider.script = steps = StepByStep(framing, [*map(chunk, sse())] if framing == CHUNKED else sse())
            with gw.raw() as conn:
                conn.sendall(REQUEST % (VK.encode(), len(body)) + body)
                receive(conn, b"\r\n\r\n")
                for piece in sse()[:-1]:
                    steps.may_go_on.release()
                    receive(conn, piece)
                steps.may_go_on.release(2)
                with pytest.raises(ConnectionResetError):
                    list(iter(lambda conn=conn: conn.recv(65536), b""))
            record = Subject(gw, provider, "fast").last(count)
            assert (record["outcome"], record["cost_nano"]) == ("cancelled", FULL_PRICE_NANO)
        gw.wait_for("because the short way failed")


def test_the_whole_suite_can_be_run_on_the_general_way(tmp_path, monkeypatch):
    """By an environment variable that tests read, so that every test of answers can check both."""
    monkeypatch.setenv(GENERAL_WAY, "1")
    with FakeProvider(script(CHUNKED, ANSWERS["all at once"][1])) as provider, Gateway(tmp_path, policy_text(provider.url)) as gw:
        assert gw.post(ask(stream=True)).body == TEXT
        assert Subject(gw, provider, "general").streams() == {("general", "off"): 1}
