"""An answer that is handled in a straight line: client, provider, hooks and layers see what they see where mitmproxy's layers do it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.net.http.http1 import assemble_response_head, connection_close, expected_http_body_size, read_response_head
from mitmproxy.net.http.validate import validate_headers

from runtime import hooks_at_once
from runtime.requests import arriving_bodies, whole_requests
from runtime.resources import release_memory
from runtime.streams import fast_streams, flow_control, plain_heads, straight_answers
from runtime.streams.fast_streams import FastStreams
from support.hypothesis_profiles import examples
from support.memory_surroundings import call_hooks, find_handlers, patch_answers
from support.memory_wire import MemoryWire, options, settle

TEXT = b"event: a\ndata: {}\n\n0\r\n\r\nHello"
CHUNKS = b"a\r\nevent: a\nd\r\n8\r\nata: {}\n\r\nb\r\n\n0\r\n\r\nHello\r\n0\r\n\r\n"
JUNK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def answer(*fields: str, body: bytes = b"", line: str = "HTTP/1.1 200 OK") -> bytes:
    return "".join(f"{x}\r\n" for x in (line, *fields, "")).encode("latin-1") + body


CHUNKED = answer("Content-Type: text/event-stream", "Transfer-Encoding: chunked", body=CHUNKS)
WITH_LENGTH = answer("content-type: application/json", f"content-length: {len(TEXT)}", body=TEXT)

STRAIGHT = {
    "chunked": CHUNKED,
    "length": WITH_LENGTH,
    "an error": answer("content-length: 2", body=b"no", line="HTTP/1.1 529 Site is overloaded"),
    "no reason": answer("content-length: 2", body=b"no", line="HTTP/1.1 404"),
    "kept alive": answer("connection: keep-alive", "content-length: 2", body=b"ok"),
    "coding in capitals": answer("TRANSFER-ENCODING: Chunked", body=CHUNKS),
    "values padded": answer("content-length:   2  ", "x:\t1", body=b"ok"),
    "one chunk": answer("transfer-encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
    "no chunk": answer("transfer-encoding: chunked", body=b"0\r\n\r\n"),
    "the last chunk in a chunk": answer("transfer-encoding: chunked", body=b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
    "many fields": answer(*(f"x-{n}: {n}" for n in range(40)), "set-cookie: a", "set-cookie: b", "content-length: 2", body=b"ok"),
}
"""Answers that are handled in a straight line if they come in one read."""

BEGUN = {
    "trailers": answer("transfer-encoding: chunked", body=CHUNKS[:-2] + b"x-a: b\r\n\r\n"),
    "extensions": answer("transfer-encoding: chunked", body=b"2;a=b\r\nok\r\n1\r\n!\r\n0\r\n\r\n"),
    "an extension of the last chunk": answer("transfer-encoding: chunked", body=b"2\r\nok\r\n0;a\r\n\r\n"),
    "no size": answer("transfer-encoding: chunked", body=b"2\r\nok\r\nx\r\n\r\n0\r\n\r\n"),
    "no end of a chunk": answer("transfer-encoding: chunked", body=b"2\r\nok0\r\n\r\n"),
    "chunks, and junk behind": CHUNKED + JUNK,
}
"""Answers whose head is handled in a straight line, and whose rest is not."""

GENERAL = {
    "length, and junk behind": WITH_LENGTH + JUNK,
    "until close": answer("x: y", body=TEXT),
    "until close, coded": answer("transfer-encoding: gzip", body=TEXT),
    "compressed chunks": answer("transfer-encoding: gzip, chunked", body=CHUNKS),
    "asks to close": answer("connection: close", "content-length: 2", body=b"ok"),
    "asks for more": answer("connection: upgrade, keep-alive", "content-length: 2", body=b"ok"),
    "HTTP/1.0": answer("content-length: 2", body=b"ok", line="HTTP/1.0 200 OK"),
    "HTTP/1.0, chunked": answer("transfer-encoding: chunked", body=CHUNKS, line="HTTP/1.0 200 OK"),
    "no version": answer("content-length: 2", body=b"ok", line="HTTP/x 200 OK"),
    "no content": answer("x: y", line="HTTP/1.1 204 No Content"),
    "not modified": answer("content-length: 7", line="HTTP/1.1 304 Not Modified"),
    "nothing": answer("content-length: 0"),
    "informational": answer(line="HTTP/1.1 103 Early Hints") + WITH_LENGTH,
    "switches": answer("connection: upgrade", "upgrade: x", line="HTTP/1.1 101 Switching Protocols"),
    "no status": answer("content-length: 2", body=b"ok", line="HTTP/1.1 OK"),
    "status of four digits": answer("content-length: 2", body=b"ok", line="HTTP/1.1 2000 OK"),
    "no name": answer(": x", "content-length: 2", body=b"ok"),
    "a name with a space": answer("a b: x", "content-length: 2", body=b"ok"),
    "a space before the colon": answer("content-length : 2", body=b"ok"),
    "no colon": answer("content-length", body=b"ok"),
    "line feeds": WITH_LENGTH.replace(b"\r\n", b"\n", 2),
    "a line feed in a field": answer("x: a\ny: b", "content-length: 2", body=b"ok"),
    "line feeds alone": WITH_LENGTH.replace(b"\r\n", b"\n"),
    "a blank line before": b"\r\n" + WITH_LENGTH,
    "both framings": answer("content-length: 2", "transfer-encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
    "two lengths": answer("content-length: 2", "content-length: 2", body=b"ok"),
    "two codings": answer("transfer-encoding: chunked", "transfer-encoding: chunked", body=CHUNKS),
    "two connections": answer("connection: keep-alive", "connection: close", "content-length: 2", body=b"ok"),
    "a signed length": answer("content-length: +2", body=b"ok"),
    "a padded length": answer("content-length: 02", body=b"ok"),
    "a length in other digits": answer("content-length: \xb2", body=b"ok"),
    "an enormous length": answer("content-length: 99999999999999999999", body=b"ok"),
    "more than is kept": answer("content-length: 300", body=b"x" * 300),
}
"""Answers that are left to mitmproxy's layers."""

ANSWERS = STRAIGHT | BEGUN | GENERAL

READS = ("tap", "held", "kept", "all", "changed")
"""How an answer is read: by a tap as it streams or until it is whole, or as mitmproxy does."""

DOES = (
    "waits at head",
    "waits at end",
    "is killed at head",
    "is killed at end",
    "is killed at head and waits",
    "is replaced at head",
    "is replaced at head and waits",
    "is replaced and read at head",
    "is replaced at end",
    "is replaced at end and waits",
    "gets a field at head",
    "gets a field at end",
    "gets a length at head",
    "is closed at head",
    "is closed at end",
    "its request is closed at end",
    "is another status at head",
    "is another status at end",
    "gets a text at end",
    "gets trailers at end",
    "breaks a tap",
    "breaks a tap at its end",
    "is intercepted at head",
    "is intercepted at end",
)
"""What a hook, or a tap, does."""


@dataclass(frozen=True)
class Case:
    """Answers on one connection of a client, each in reads that are cut after so many bytes, and what becomes of them."""

    answers: tuple[bytes, ...] = (CHUNKED, WITH_LENGTH)
    reads: str = "tap"
    does: str = ""
    cuts: tuple[int, ...] = ()
    request: str = "POST /%d HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\nbody"
    ending: str = ""
    """What happens after the last read: ``eof`` or ``reset`` of the provider, or the client ``leaves``."""
    is_early: bool = False
    """Whether the second request is sent before the first is answered."""


@dataclass
class Seen:
    """What came of a case."""

    client: bytes = b""
    provider: bytes = b""
    hooks: list[Any] = field(default_factory=list)
    tapped: list[bytes] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)
    closed: tuple[bool, bool] = (False, False)
    logged: list[str] = field(default_factory=list)
    left: list[Any] = field(default_factory=list)
    """What is left of each stream."""
    streams: Counter[Any] = field(default_factory=Counter)
    heads: int = 0
    """How many heads were handled in a straight line."""
    ends: int = 0


class Tap:
    """Reads an answer, or fails."""

    passes_unchanged = True

    def __init__(self, fails: str) -> None:
        self.fails, self.read = fails, bytearray()

    def __call__(self, piece: bytes) -> bytes:
        if self.fails == ("breaks a tap" if piece else "breaks a tap at its end"):
            raise ValueError("a tap that fails")
        self.read += piece or b"|"
        return piece


class Hooks:
    """What happens at each hook; those that wait return a coroutine."""

    def __init__(self, case: Case, seen: Seen) -> None:
        self.case, self.seen, self.taps, self.streams = case, seen, list[Tap](), list[Any]()

    def begin(self, event: Any) -> Any:
        """Call a hook up to where it waits."""
        flow, name = event.flow, event.name
        self.seen.hooks.append((name, *shown(flow)))
        if name == "requestheaders":
            (top,) = release_memory.http_layers[flow.client_conn.id]
            self.streams.append(next(reversed(top.streams.values())))
        if name == "responseheaders":
            self.prepare(flow)
        does, _, at = self.case.does.partition(" at ")
        if {"head": "responseheaders", "end": "response", "first": "requestheaders"}.get(at.split(" ")[0]) != name:
            return None
        self.act(does, flow)
        return self.wait(name, flow) if at.endswith("waits") or does == "waits" else None

    async def wait(self, name: str, flow: http.HTTPFlow) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.seen.hooks.append((f"{name} over", *shown(flow)))

    def prepare(self, flow: Any) -> None:
        """Say how the answer is read."""
        tap = Tap(self.case.does)
        self.taps.append(tap)
        match self.case.reads:
            case "tap":
                flow.response.stream = tap
            case "held":
                flow.sluicegate_tap = tap
            case "all":
                flow.response.stream = True
            case "changed":
                flow.response.stream = lambda data: data.upper()

    def act(self, does: str, flow: Any) -> None:
        """Do what this case's hook does."""
        fields = flow.response.headers if flow.response else {}
        match does:
            case "is killed":
                flow.kill()
            case "its request is closed":
                flow.request.headers["connection"] = "close"
            case "its request loses its close":
                flow.request.headers.pop("connection")
            case "is streamed":
                flow.request.stream = True
            case "is replaced":
                flow.response = http.Response.make(418, b"replaced", {"x": "y"})
            case "is replaced and read":
                flow.response = http.Response.make(418, TEXT, {"x": "y"})
                flow.response.stream = self.taps[-1]
            case "gets a field":
                fields["x-cost"] = "1"
            case "gets a length":
                fields.pop("transfer-encoding", None)
                fields["content-length"] = str(len(TEXT))
            case "is closed":
                fields["connection"] = "close"
            case "is another status":
                flow.response.status_code = 204
            case "gets a text":
                flow.response.text = "another text"
            case "gets trailers":
                flow.response.trailers = http.Headers(((b"a", b"b"),))
            case "is intercepted":
                flow.intercept()
                asyncio.get_running_loop().call_soon(flow.resume)


def shown(flow: http.HTTPFlow) -> tuple[Any, ...]:
    """Return what a hook can see of its flow, without times."""
    response = flow.response
    of_response = response and (
        response.http_version,
        response.status_code,
        response.reason,
        response.headers.fields,
        response.raw_content,
        response.trailers and response.trailers.fields,
        bool(response.timestamp_start),
        bool(response.timestamp_end),
        type(response.stream).__name__,
    )
    return flow.request.path, of_response, flow.error and flow.error.msg, flow.live, flow.websocket, flow.server_conn.connected


def left_of(stream: Any) -> tuple[Any, ...]:
    """Return what is left of a stream that has ended."""
    depth, what = len(stream.context.layers), (len(stream.response_body_buf), stream.upstream is None)
    return shown(stream.flow), stream.client_state.__name__, stream.server_state.__name__, depth, *what


def states(wire: MemoryWire) -> Any:
    """Return what the layers of a connection are waiting for, after an answer."""
    (top,) = release_memory.http_layers[wire.handler.client.id]
    found: list[Any] = [[(number, repr(stream)) for number, stream in top.streams.items()], len(top.command_sources)]
    for connection in top.connections.values():
        one = connection.context.layers[-1]
        message = one.request and one.request.path, one.response and one.response.status_code
        found.append((repr(one), one.stream_id, *message, one.request_done, one.response_done, bytes(one.buf), one._paused))
    return found


@pytest.fixture(scope="module")
def play():
    """Return what makes a case run one way or the other; the patches of answers are in place meanwhile."""
    current: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch_answers(patch)
        find_handlers(patch, current, fast_streams, flow_control, arriving_bodies)
        patch.setattr(fast_streams, "services", lambda: SimpleNamespace(streams=current["seen"].streams, stream_reads=Counter()))
        patch.setattr(whole_requests, "count", id)
        patch.setattr(FastStreams, "fits", True)
        log = logging.getLogger("mitmproxy.proxy.server")
        level = log.level
        log.setLevel(logging.INFO)
        straight = straight_answers.straight
        options().update(body_size_limit="200b")
        head, end = straight_answers.handle_head, straight_answers.end

        def counted_head(*of: Any) -> Any:
            current["seen"].heads += 1
            return head(*of)

        def counted_end(*of: Any) -> Any:
            current["seen"].ends += 1
            return end(*of)

        patch.setattr(straight_answers, "handle_head", counted_head)
        patch.setattr(straight_answers, "end", counted_end)

        def run(case: Case, is_straight: bool) -> Seen:
            seen = current["seen"] = Seen()
            patch.setattr(FastStreams, "is_on", True)
            patch.setattr(straight_answers, "straight", straight if is_straight else lambda *_: None)
            runner.run(drive(case, seen, current))
            assert FastStreams.is_on
            return seen

        async def drive(case: Case, seen: Seen, current: dict[str, Any]) -> None:
            none: Any = None
            hooks = Hooks(case, seen)
            wire = current["wire"] = MemoryWire({}, server=none, trust=none, server_files="")
            patch.setattr(asyncio, "open_connection", wire.open_connection)
            patch.setattr(hooks_at_once, "dispatch", [hooks])

            call_hooks(wire, hooks.begin)
            wire.start()
            try:
                await talk(wire, case, seen)
                seen.client, seen.provider = bytes(wire.raw), bytes(wire.requests)
                seen.closed = wire.client.closing, bool(wire.provider and wire.provider.closing)
                seen.left = [left_of(stream) for stream in hooks.streams]
                seen.tapped = [bytes(tap.read) for tap in hooks.taps]
                seen.logged = [line.partition("Traceback")[0] for line in wire.logged]
                seen.logged += [line.strip().rpartition("\n")[2] for line in wire.logged if "Traceback" in line]
            finally:
                await wire.end()

        yield run
        options().update(body_size_limit=None)
        log.setLevel(level)


async def talk(wire: MemoryWire, case: Case, seen: Seen) -> None:
    """Let a client ask, and a provider answer."""
    await settle()
    for number, whole in enumerate(case.answers):
        if not (case.is_early and number):
            for n in range(number, number + 1 + case.is_early):
                wire.client.arrive("data", (case.request.replace(" /", " http://localhost/") % n).encode())
        await settle()
        if wire.provider is None or wire.provider.closing or f"/{number} ".encode() not in wire.requests:
            break
        at = [0, *sorted({c for c in case.cuts if 0 < c < len(whole)}), len(whole)]
        for begin, end in itertools.pairwise(at):
            wire.provider.arrive("data", whole[begin:end])
            await settle()
            seen.states.append(states(wire))
    if case.ending == "leaves":
        wire.client.arrive("lost", ConnectionResetError("reset"))
    elif case.ending and wire.provider is not None:
        wire.provider.arrive(*(("eof",) if case.ending == "eof" else ("lost", ConnectionResetError("reset"))))
    await settle()
    seen.states.append(states(wire))


def check(play: Any, case: Case) -> Seen:
    """Compare both ways of a case, and return what came of the straight one."""
    straight, general = play(case, True), play(case, False)
    assert not general.heads
    for name in ("hooks", "tapped", "logged", "client", "provider", "states", "closed", "left"):
        assert getattr(straight, name) == getattr(general, name), name
    if "mitmproxy has crashed!" not in straight.logged:
        assert straight.streams == general.streams
    return straight  # type: ignore[no-any-return]


@pytest.mark.parametrize("reads", READS)
def test_every_answer_comes_alike(play, reads):
    for name, whole in ANSWERS.items():
        seen = check(play, Case((whole, WITH_LENGTH), reads))
        both = len(seen.tapped) == 2
        assert seen.heads == (name in STRAIGHT or name in BEGUN) + both, name
        is_whole = name in STRAIGHT
        assert seen.ends == ((is_whole + both) if reads in ("tap", "held") else 0), name


@pytest.mark.parametrize("reads", ["tap", "held"])
@pytest.mark.parametrize("does", DOES)
def test_whatever_a_hook_does_comes_alike(play, reads, does):
    assert check(play, Case((CHUNKED,), reads, does, cuts=(len(CHUNKED) - 21,))).heads
    for answers in ((CHUNKED, WITH_LENGTH), (WITH_LENGTH,)):
        seen = check(play, Case(answers, reads, does))
        assert seen.heads
        assert not seen.ends or does in (
            "gets a field at head",
            "gets a field at end",
            "gets a text at end",
            "gets a length at head",
        )


REQUESTS = {
    "a GET": "GET /%d HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a HEAD": "HEAD /%d HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a PUT": "PUT /%d HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\nbody",
    "asks to close": "GET /%d HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    "keeps alive": "GET /%d HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n",
    "HTTP/1.0": "GET /%d HTTP/1.0\r\nhost: localhost\r\n\r\n",
    "HTTP/1.0 that keeps alive": "GET /%d HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n",
    "asks before it sends": "POST /%d HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody",
    "in chunks": "POST /%d HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "with more than its body": "POST /%d HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\nbodyGET",
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_answer_to_every_request_comes_alike(play, name):
    for reads, is_early, ending in itertools.product(("tap", "held"), (False, True), ("", "eof", "leaves")):
        check(play, Case(reads=reads, request=REQUESTS[name], is_early=is_early, ending=ending))


@pytest.mark.parametrize("reads", ["tap", "held"])
def test_an_answer_that_comes_before_its_request_has_ended_is_left_to_mitmproxy(play, reads):
    unfinished = Case.request.replace("length: 4", "length: 5")
    assert check(play, Case((CHUNKED, CHUNKED), reads, "is streamed at first", request=unfinished)).heads == 0
    assert check(play, Case((CHUNKED, CHUNKED), reads, "is streamed at first")).heads == 2


def test_an_answer_that_is_stored_as_it_streams_is_left_to_mitmproxy(play):
    options().update(store_streamed_bodies=True)
    try:
        assert check(play, Case()).heads == 0
    finally:
        options().update(store_streamed_bodies=False)


@pytest.mark.parametrize("reads", ["tap", "held"])
def test_a_connection_ends_that_its_client_asked_to_close_though_no_provider_sees_that(play, reads):
    seen = check(play, Case((CHUNKED,), reads, "its request loses its close at first", request=REQUESTS["asks to close"]))
    assert seen.closed[0]
    assert seen.heads == 1


@pytest.mark.parametrize("reads", ["tap", "held"])
def test_an_answer_may_be_cut_anywhere(play, reads):
    ends = Counter[bytes]()
    for whole in (CHUNKED, WITH_LENGTH):
        # A head that has not come whole is mitmproxy's, wherever it is cut.
        for at in (1, *range(whole.index(b"\r\n\r\n"), len(whole))):
            seen = check(play, Case((whole,), reads, cuts=(at,)))
            ends[whole] += seen.ends
            assert seen.tapped == [TEXT + b"|"]
    assert ends[CHUNKED] > 30
    assert ends[WITH_LENGTH] > 25


def test_a_chunk_that_does_not_end_may_be_cut_anywhere(play):
    whole = BEGUN["no end of a chunk"]
    for at in range(whole.index(b"2\r\n"), len(whole)):
        check(play, Case((whole,), cuts=(at,)))


@pytest.mark.parametrize("ending", ["eof", "reset", "leaves"])
def test_either_end_may_leave_after_any_byte(play, ending):
    for at in range(1, len(CHUNKED), 3):
        check(play, Case((CHUNKED[:at],), ending=ending))


def test_a_body_that_may_be_too_large_is_left_to_mitmproxy(play):
    assert check(play, Case((GENERAL["more than is kept"],))).heads == 0


def test_an_error_of_our_own_leaves_answers_to_mitmproxy(play, monkeypatch, caplog):
    def fail(*_: Any) -> None:
        raise ValueError("what nobody thought of")

    monkeypatch.setattr(straight_answers, "read_response", fail)
    with monkeypatch.context() as patch:
        patch.setattr(FastStreams, "is_on", True)
        with pytest.raises(AssertionError):
            play(Case(), True)
    assert caplog.text.count("because the straight one failed") == 1


def test_an_unknown_mitmproxy_handles_answers_itself(monkeypatch, caplog):
    assert straight_answers.FITS
    readers: Any = {"read_headers": None, "read_body": None}
    monkeypatch.setattr(straight_answers, "FITS", False)
    assert straight_answers.reading(readers) is readers
    assert "the general, slower way" in caplog.text


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Return any case."""
    answers = st.sampled_from([CHUNKED, WITH_LENGTH]) | st.sampled_from(sorted(ANSWERS.values()))
    return Case(
        answers=tuple(draw(st.lists(answers, min_size=1, max_size=3))),
        reads=draw(st.sampled_from([*READS, "tap", "held"])),
        does=draw(st.sampled_from(["", "", *DOES])),
        cuts=tuple(draw(st.lists(st.integers(1, len(CHUNKED)), max_size=4))),
        request=draw(st.sampled_from([Case.request, Case.request, *REQUESTS.values()])),
        ending=draw(st.sampled_from(["", "", "eof", "reset", "leaves"])),
        is_early=draw(st.booleans()),
    )


@given(case=cases())
@settings(max_examples=examples(300, ci=60))
def test_both_ways_are_the_same_for_any_case(play, case):
    seen = check(play, case)
    note(f"heads {seen.heads}, ends {seen.ends}")


def test_a_body_is_framed_as_mitmproxy_finds_it():
    """What is taken for plain is valid to mitmproxy, which finds the same size and keeps the connection."""
    values = {
        "content-length": ["2", "0", "02", "+2", "2, 2", " ", "9" * 16, "\xb2", "2_0"],
        "transfer-encoding": ["chunked", "CHUNKED", "gzip", "gzip, chunked", "x", "", "chunked, chunked"],
        "connection": ["close", "keep-alive", "Keep-Alive", "upgrade", "keep-alive, close", ""],
    }
    one = [(name, value) for name, some in values.items() for value in some] + [("a b", "x"), ("", "x"), ("x", "y")]
    asked = http.Request.make("POST", "http://localhost/")
    plain = 0
    for found in itertools.chain(itertools.product(one, repeat=1), itertools.product(one, repeat=2)):
        fields = tuple((name.title().encode(), value.encode("latin-1")) for name, value in found)
        response = http.Response.make(200)
        response.headers = http.Headers(fields)
        kept = plain_heads.keeps_connection(fields)
        assert not kept or not connection_close("HTTP/1.1", response.headers)
        if (size := plain_heads.body_size(fields)) is not None:
            validate_headers(response)
            assert expected_http_body_size(asked, response) == (None if size == plain_heads.CHUNKED else size)
            assert kept
            plain += 1
    assert plain > 10


def test_a_head_is_read_and_written_as_mitmproxy_does_it():
    plain = 0
    for whole in [
        *ANSWERS.values(),
        *ANSWERS.values(),
        answer("x:y: z", "Y:  ", line="HTTP/1.1  200  Fine  it is"),
        answer("x:", " y"),
    ]:
        end = whole.find(b"\r\n\r\n")
        found = plain_heads.read_response(whole, end) if end > 0 else None
        if found is None or plain_heads.shape_of(found.headers.fields) is None:
            continue
        stock = read_response_head(whole[:end].split(b"\r\n"))
        stock.timestamp_start = found.timestamp_start
        assert found.get_state() == stock.get_state()
        assert vars(found).keys() == vars(stock).keys()
        assert plain_heads.write_head(found) == assemble_response_head(stock)
        plain += 1
    assert plain > 40


def test_the_first_lines_of_answers_are_remembered_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(plain_heads, "_first_lines", {})
    monkeypatch.setattr(plain_heads, "MAX_FIRST_LINES", 3)
    for n in range(10):
        assert plain_heads.read_response(b"HTTP/1.1 200 %d\r\nx: y" % n, 22).reason == str(n)
        assert 0 < len(plain_heads._first_lines) <= 3
    line = b"HTTP/1.1 200 " + b"x" * 300
    assert plain_heads.read_response(line + b"\r\nx: y", len(line) + 6).reason == "x" * 300
    assert line not in plain_heads._first_lines


def test_the_names_of_a_head_are_remembered_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(plain_heads, "_shapes", {})
    monkeypatch.setattr(plain_heads, "MAX_SHAPES", 3)
    for n in range(10):
        assert plain_heads.body_size(((b"x-%d" % n, b"1"), (b"content-length", b"7"))) == 7
    assert plain_heads.body_size(((b"x" * 5000, b"1"), (b"content-length", b"7"))) == 7
    assert len(plain_heads._shapes) <= 3


def test_many_odd_heads_keep_no_other_from_being_remembered(monkeypatch):
    monkeypatch.setattr(plain_heads, "_shapes", {})
    for n in range(plain_heads.MAX_SHAPES):
        plain_heads.body_size(((b"x-%d" % n, b"1"),))
    usual = (b"content-type", b"content-length")
    plain_heads.body_size(tuple((name, b"7") for name in usual))
    assert usual in plain_heads._shapes
