"""Whatever is cut, delayed or broken off: the short way gives a client and the meter what mitmproxy's general way gives them.

Both ways carry the same answers with the same cuts, in memory: see ``support.memory_wire``.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import ssl
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from runtime import hooks_at_once
from runtime.requests import arriving_bodies, whole_requests
from runtime.streams import fast_streams, flow_control
from runtime.streams.fast_streams import FastStreams
from sluicegate.calls.answer import AnswerReader
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.known import known_providers
from support.certificates import server_context
from support.fake_provider import sse
from support.hypothesis_profiles import examples
from support.memory_surroundings import find_handlers, patch_answers
from support.memory_wire import REQUEST, MemoryWire, settle
from support.server_records import ALERT, INTERNAL_ERROR, NOT_A_RECORD

TEXT = b"".join(sse(text="Hello \r\n0\r\n\r\n"))
CHUNKED, WITH_LENGTH, UNTIL_CLOSE = b"transfer-encoding: chunked", b"content-length: %d", b"connection: close"
ODD = ("ticket", "keys", "keys, asking", "nothing")
"""Records without data, see ``ServerRecords.odd``."""
BREAKS = ("eof", "reset", "leaves", "alert", "not a record")
"""What ends an answer before its time."""
WINDOW, MAX_UNSENT = 200, 100
"""Bytes that an HTTP/2 client takes at first, and that may wait for it: so few that answers of these sizes exceed them."""


def chunked(data: bytes, sizes: list[int], extension: bytes, trailers: bytes) -> bytes:
    """Return a body in chunks of these sizes, and then of what is left."""
    pieces, at = [], 0
    for size in [*sizes, len(data)]:
        if part := data[at : at + size]:
            pieces.append(b"%x%b\r\n%b\r\n" % (len(part), extension, part))
        at += size
    return b"".join(pieces) + b"0\r\n" + trailers + b"\r\n"


@dataclass(frozen=True)
class Case:
    """Answers on one connection of a client, and what becomes of them."""

    over: str = "HTTP/1.1"
    client_tls: bool = False
    provider_tls: bool = False
    answers: tuple[tuple[bytes, bytes], ...] = ()
    """The line that frames each, and the framed body."""
    cuts: tuple[int, ...] = ()
    """Bytes after which each answer's body is cut."""
    turns: tuple[int, ...] = ()
    """How many turns of the loop are waited for after a piece, by the piece's number, in a circle; -1 until nothing moves."""
    joins_head: bool = False
    ending: str = ""
    """What happens to the last answer after ``end_at`` of its pieces: ``eof``, ``reset``, ``leaves``, or in TLS an ``alert`` or what
    is ``not a record``; or ``junk`` after it."""
    end_at: int = 0
    stalled: tuple[int, ...] = ()
    """Numbers of pieces before which the client changes between reading and not reading."""
    recut: int = 0
    """Bytes after which records of TLS are cut; 0 for whole reads, -1 for a cut after one more byte each time."""
    record_bytes: int = 0
    """Bytes of a piece in each record of TLS; 0 for all."""
    between: tuple[str, ...] = ()
    """What precedes a record of TLS, in a circle: see ``ServerRecords.odd``."""
    ends_together: bool = False
    """Whether the end of TLS comes in the same read as the last piece."""
    asks_early: bool = False
    at_once: bool = False
    """Whether hooks are over where mitmproxy asks for them, as the gateway's own are, which wait for nothing."""


@dataclass
class Seen:
    """What came of a case."""

    answers: list[Any] = field(default_factory=list)
    usage: list[Any] = field(default_factory=list)
    tapped: list[bytes] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)
    reset: bool = False
    logged: list[str] = field(default_factory=list)
    reads: Counter[str] = field(default_factory=Counter)
    streams: Counter[Any] = field(default_factory=Counter)
    pauses: int = 0
    """How often the provider was not read any more, for a client that does not read."""
    left_paused: bool = False
    writes: Counter[str] = field(default_factory=Counter)


class Dispatch:
    """The dispatch of hooks in place of the gateway's own."""

    def __init__(self, hooks: dict[str, Any]) -> None:
        self.hooks = hooks

    def begin(self, event: Any) -> None:
        """Call a hook that waits for nothing."""
        if event.name in self.hooks:
            self.hooks[event.name](event.flow)


class Tap:
    """Reads an answer's usage as the gateway's own callback does."""

    passes_unchanged = True

    def __init__(self) -> None:
        known = known_providers()["anthropic"]
        self.reader = AnswerReader(PROTOCOLS[known.protocol].usage_reader(known.usage, ""), "", "text/event-stream")
        self.read = bytearray()

    def __call__(self, piece: bytes) -> bytes:
        self.read += piece
        self.reader.feed(piece)
        return piece


@pytest.fixture(scope="module")
def wires(tmp_path_factory):
    """Return what makes a case run one way or the other; the patches of answers are in place meanwhile."""
    folder = tmp_path_factory.mktemp("tls")
    server, public = server_context(folder)
    server.keylog_filename = str(folder / "secrets")
    trust = ssl.create_default_context(cafile=str(public))
    files = str(folder / "server-with-key.pem")
    current: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch_answers(patch)
        find_handlers(patch, current, fast_streams, flow_control, arriving_bodies)
        patch.setattr(fast_streams, "services", lambda: current["services"])
        patch.setattr(whole_requests, "count", id)
        patch.setattr(flow_control, "MAX_UNSENT_BYTES", MAX_UNSENT)
        patch.setattr(flow_control, "RESUMED_AT_BYTES", MAX_UNSENT // 4)
        patch.setattr(FastStreams, "fits", True)

        def run(case: Case, is_fast: bool) -> Seen:
            seen, taps = Seen(), []
            current["services"] = SimpleNamespace(streams=seen.streams, stream_reads=seen.reads)
            patch.setattr(FastStreams, "is_on", is_fast)

            def requestheaders(flow: Any) -> None:
                flow.request.scheme = "https" if case.provider_tls else "http"

            def responseheaders(flow: Any) -> None:
                taps.append(Tap())
                flow.response.stream = taps[-1]

            def response(flow: Any) -> None:
                seen.hooks.append(f"{flow.request.path} response")

            def error(flow: Any) -> None:
                seen.hooks.append(f"{flow.request.path} {flow.error.msg}")

            hooks = {"requestheaders": requestheaders, "responseheaders": responseheaders, "response": response, "error": error}
            patch.setattr(hooks_at_once, "dispatch", [Dispatch(hooks)] if case.at_once else [])

            async def play() -> None:
                wire = current["wire"] = MemoryWire(
                    hooks,
                    over=case.over,
                    client_tls=case.client_tls,
                    provider_tls=case.provider_tls,
                    server=server,
                    trust=trust,
                    server_files=files,
                )
                patch.setattr(asyncio, "open_connection", wire.open_connection)
                wire.start(WINDOW)
                try:
                    await drive(wire, case)
                    seen.writes = wire.writes
                    seen.reset = wire.client.was_aborted
                    seen.pauses = wire.provider.pauses if wire.provider else 0
                    seen.left_paused = bool(wire.provider and wire.provider.waiting and not wire.provider.closing)
                    seen.answers = answers(wire)
                finally:
                    await wire.end()
                seen.logged = [line for line in wire.logged if "crashed" in line]

            runner.run(play())
            for tap in taps:
                answer = tap.reader.finish()
                seen.tapped.append(bytes(tap.read))
                seen.usage.append((structs.asdict(answer.usage) if answer.usage else None, answer.is_final, answer.is_truncated))
            return seen

        yield run


async def drive(wire: MemoryWire, case: Case) -> None:
    """Play a case to its end."""
    await settle()
    if wire.client_tls is not None:
        wire.client_tls.feed(b"")
        await settle()
    slow = False
    for number, (framing, body) in enumerate(case.answers):
        is_last = number == len(case.answers) - 1
        if not (number and case.asks_early):
            wire.ask(number)
        await settle()
        if wire.provider is None or wire.client.closing or wire.requests.count(REQUEST) <= number:
            return
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + framing + b"\r\n\r\n"
        at = [0, *sorted({c for c in case.cuts if 0 < c < len(body)}), len(body)]
        pieces = [body[a:b] for a, b in itertools.pairwise(at)]
        if case.joins_head:
            pieces[0] = head + pieces[0]
        else:
            pieces.insert(0, head)
        if is_last and case.ending == "junk":
            pieces[-1] += b"HTTP/1.1 200 OK\r\n\r\nwhat nobody asked for"
        until = min(case.end_at, len(pieces)) if is_last and case.ending in BREAKS else len(pieces)
        ends_whole = framing == UNTIL_CLOSE and case.ending in ("", "junk")
        closes = is_last and (ends_whole or case.ending in ("eof", "alert", "not a record"))
        for n, piece in enumerate(pieces[:until]):
            if n in case.stalled:
                slow = not slow
                # One of HTTP/2 reads its socket all the same, and gives no window.
                wire.client.stall(slow and wire.h2 is None)
                wire.gives_window = not slow
            if n == 1 and case.asks_early and not is_last and wire.h2 is None:
                wire.ask(number + 1)
            send(wire, piece, case, n, is_end=closes and n == until - 1)
            await wait(case.turns[n % len(case.turns)] if case.turns else -1)
        if closes:
            close(wire, case)
        elif is_last and case.ending == "reset":
            wire.provider.arrive("lost", ConnectionResetError("reset"))
        elif is_last and case.ending == "leaves":
            wire.client.arrive("lost", ConnectionResetError("reset"))
        await settle()
        wire.client.stall(False)
        slow, wire.gives_window = False, True
        for _ in range(50):
            wire.give_window()
            await settle()
            if not wire.ungiven and not wire.provider.waiting:
                break


async def wait(turns: int) -> None:
    if turns < 0:
        await settle()
    for _ in range(turns):
        await asyncio.sleep(0)


def send(wire: MemoryWire, piece: bytes, case: Case, number: int, *, is_end: bool) -> None:
    assert wire.provider is not None
    if (tls := wire.provider_tls) is not None:
        if case.between or case.ending == "alert":
            tls.by_hand()
        size = case.record_bytes or len(piece)
        records = []
        for n, at in enumerate(range(0, len(piece), size), number):
            if case.between:
                records.append(tls.by_hand().odd(case.between[n % len(case.between)]))
            records.append(tls.encrypt(piece[at : at + size]))
        piece = b"".join(records)
        if is_end and case.ends_together:
            piece += tls_ending(wire, case)
    if case.recut < 0:
        at = number % (len(piece) - 1) + 1
        reads = [piece[:at], piece[at:]]
    else:
        reads = [piece[at : at + (case.recut or len(piece))] for at in range(0, len(piece), case.recut or len(piece))]
    for data in reads:
        wire.provider.arrive("data", data)


def tls_ending(wire: MemoryWire, case: Case) -> bytes:
    """Return the record that ends a case, or breaks it off."""
    assert wire.provider_tls is not None
    if case.ending == "alert":
        return wire.provider_tls.by_hand().record(ALERT, INTERNAL_ERROR)
    return NOT_A_RECORD if case.ending == "not a record" else wire.provider_tls.ending()


def close(wire: MemoryWire, case: Case) -> None:
    assert wire.provider is not None
    if wire.provider_tls is not None and not case.ends_together and (ending := tls_ending(wire, case)):
        wire.provider.arrive("data", ending)
    wire.provider.arrive("eof")


def answers(wire: MemoryWire) -> list[Any]:
    """Return what the client has read: of each answer its head, its payload, and how it ended."""
    if wire.h2 is not None:
        return [(seen["status"], bytes(seen["data"]), seen["ended"]) for seen in wire.h2_seen.values()]
    found, raw = [], bytes(wire.raw)
    while b"\r\n\r\n" in raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        if b"chunked" in head:
            payload, raw, is_whole = unchunked(raw)
        elif length := re.search(rb"content-length: (\d+)", head):
            payload, raw, is_whole = raw[: int(length[1])], raw[int(length[1]) :], len(raw) >= int(length[1])
        else:
            payload, raw, is_whole = raw, b"", wire.client.closing and not wire.client.was_aborted
        found.append((head, payload, is_whole))
    return [*found, raw, wire.client.closing]


def unchunked(raw: bytes) -> tuple[bytes, bytes, bool]:
    """Return the payload of a chunked body, what follows it, and whether it was whole. Raises AssertionError for bad chunks."""
    payload = b""
    while line := re.match(rb"([0-9a-fA-F]+)[^\r\n]*\r\n", raw):
        size, raw = int(line[1], 16), raw[line.end() :]
        if not size:
            assert raw.startswith(b"\r\n")
            return payload, raw[2:], True
        payload, ending, raw = payload + raw[:size], raw[size : size + 2], raw[size + 2 :]
        assert b"\r\n".startswith(ending)
    assert len(raw) < 20, raw
    return payload, b"", False


def check(run: Any, case: Case) -> tuple[Seen, Seen]:
    """Compare both ways of a case."""
    fast, general = run(case, True), run(case, False)
    assert fast.logged == general.logged == []
    assert not general.reads
    if case.ending in BREAKS and (set(case.turns) - {-1} or case.stalled):
        # What asyncio had not handed out when the connection was lost is lost to that way, and so is what waited for an HTTP/2
        # client's window when its stream was reset: how much that is depends on how far each way had come.
        for pair in zip(fast.tapped, general.tapped, strict=False):
            assert max(pair).startswith(min(pair))
        assert [h.split()[0] for h in fast.hooks] == [h.split()[0] for h in general.hooks]
        return fast, general
    assert fast.answers == general.answers
    assert (fast.hooks, fast.tapped, fast.usage) == (general.hooks, general.tapped, general.usage)
    assert (fast.reset, fast.left_paused) == (general.reset, general.left_paused) == (False, False)
    return fast, general


@st.composite
def framed(draw: st.DrawFn, is_last: bool) -> tuple[bytes, bytes]:
    """Return an answer: the line that frames it, and its body."""
    kind = draw(st.sampled_from(["chunked", "chunked", "length", *(["close"] if is_last else [])]))
    if kind == "chunked":
        sizes = draw(st.lists(st.integers(1, 300), max_size=8))
        extension, trailers = draw(st.sampled_from([b"", b"", b";a=b"])), draw(st.sampled_from([b"", b"", b"x-a: b\r\n"]))
        return CHUNKED, chunked(TEXT, sizes, extension, trailers)
    return (WITH_LENGTH % len(TEXT), TEXT) if kind == "length" else (UNTIL_CLOSE, TEXT)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Return any case."""
    over = draw(st.sampled_from(["HTTP/1.1", "HTTP/2"]))
    count = draw(st.integers(1, 2))
    found = tuple(draw(framed(is_last=n == count - 1)) for n in range(count))
    longest = max(len(body) for _, body in found)
    provider_tls = draw(st.booleans())
    between = draw(st.lists(st.sampled_from(["", *ODD]), max_size=4)) if provider_tls and draw(st.booleans()) else []
    # Where a line of framing or an event begins or ends, and each byte around: most places to cut at are alike.
    edges = sorted({m.end() + n for _, body in found for m in re.finditer(b"\r\n|\n\n", body) for n in range(-3, 4)})
    return Case(
        over=over,
        client_tls=over == "HTTP/1.1" and draw(st.booleans()),
        provider_tls=provider_tls,
        answers=found,
        cuts=tuple(draw(st.lists(st.integers(1, longest) | st.sampled_from(edges), max_size=12))),
        turns=tuple(draw(st.lists(st.sampled_from([-1, -1, 0, 1, 2, 3, 5]), min_size=1, max_size=6))),
        joins_head=draw(st.booleans()),
        ending=draw(st.sampled_from(["", "", "junk", *(BREAKS if provider_tls else BREAKS[:3])])),
        end_at=draw(st.integers(1, 14)),
        stalled=tuple(draw(st.lists(st.integers(1, 12), max_size=3, unique=True))),
        recut=draw(st.sampled_from([0, 0, -1, 1, 7, 100])) if provider_tls else 0,
        record_bytes=draw(st.sampled_from([0, 0, 1, 30, 200])) if provider_tls else 0,
        between=tuple(between),
        ends_together=draw(st.booleans()),
        asks_early=draw(st.booleans()),
        at_once=draw(st.booleans()),
    )


@given(case=cases())
@settings(max_examples=examples(100, ci=50))
def test_any_answer_comes_and_is_read_alike_on_both_ways(wires, case):
    fast, _ = check(wires, case)
    for what in [*fast.reads, *fast.streams, f"pauses: {bool(fast.pauses)}", *fast.hooks]:
        note(str(what))


FRAMED = {
    "chunked": (CHUNKED, chunked(TEXT, [30, 1, 260, 16], b"", b"")),
    "chunked, with extensions and trailers": (CHUNKED, chunked(TEXT, [30, 1, 260], b";a=b", b"x-a: b\r\n")),
    "length": (WITH_LENGTH % len(TEXT), TEXT),
    "until close": (UNTIL_CLOSE, TEXT),
}


@pytest.mark.parametrize("framing", FRAMED)
@pytest.mark.parametrize(
    ("over", "client_tls", "provider_tls"),
    [("HTTP/1.1", False, False), ("HTTP/1.1", True, True), ("HTTP/2", False, True)],
    ids=["in clear", "in TLS", "to HTTP/2"],
)
def test_each_byte_may_come_alone(wires, over, client_tls, provider_tls, framing):
    answer = FRAMED[framing]
    case = Case(over, client_tls, provider_tls, (answer,), cuts=tuple(range(1, len(answer[1]))))
    fast, _ = check(wires, case)
    assert fast.tapped == [TEXT]
    assert fast.usage[0][1]
    assert fast.streams == {("fast", ""): 1}
    assert fast.reads["carried"] > 500


@pytest.mark.parametrize("client_tls", [False, True], ids=["in clear", "in TLS"])
@pytest.mark.parametrize("recut", [-1, 0], ids=["cut", "whole"])
@pytest.mark.parametrize(
    "between", [(), ODD, *((what,) for what in ODD)], ids=lambda between: " and ".join(between) or "data alone"
)
def test_records_come_alike_whatever_comes_between_them(wires, between, recut, client_tls):
    """Each is cut after one more byte than the one before, and the client's next request is read by the keys of then."""
    answer = FRAMED["chunked"]
    case = Case("HTTP/1.1", client_tls, True, (answer, answer), cuts=tuple(range(8, 900, 8)), between=between, recut=recut)
    fast, general = check(wires, case)
    assert fast.tapped == [TEXT, TEXT]
    assert fast.streams == {("fast", ""): 2}
    assert fast.reads["carried"] > 150
    # A change of the keys is answered when it comes.
    assert fast.writes["provider"] == general.writes["provider"]
    assert fast.writes["provider"] > 50 or "keys, asking" not in between


@pytest.mark.parametrize("between", [(), ODD], ids=["data alone", "other records"])
@pytest.mark.parametrize(("over", "client_tls", "before"), [("HTTP/1.1", False, 0), ("HTTP/1.1", True, 2), ("HTTP/2", False, 1)])
def test_records_that_come_together_leave_together(wires, over, client_tls, before, between):
    answer = CHUNKED, chunked(TEXT, [9] * 20, b"", b"")
    case = Case(over, client_tls, True, (answer,), cuts=(len(answer[1]) - 5,), record_bytes=14, between=between)
    fast, general = check(wires, case)
    assert fast.writes["client"] <= general.writes["client"]
    assert fast.reads == {"carried": 1, "rest": 1}
    if over == "HTTP/1.1":
        # A head, the pieces, and the last chunk.
        assert fast.writes["client"] == before + 3


@pytest.mark.parametrize(("over", "client_tls"), [("HTTP/1.1", True), ("HTTP/2", False)], ids=["in TLS", "to HTTP/2"])
@pytest.mark.parametrize("provider_tls", [False, True], ids=["from clear", "from TLS"])
def test_large_pieces_take_several_records(wires, over, client_tls, provider_tls):
    text = TEXT + b": %b\n\n" % (b"x" * 50_000) + TEXT
    case = Case(over, client_tls, provider_tls, ((CHUNKED, chunked(text, [40_000], b"", b"")),), cuts=(20_000, 39_000))
    fast, _ = check(wires, case)
    assert fast.tapped == [text]
    assert fast.streams == {("fast", ""): 1}
    assert fast.reads["carried"] >= 3


@pytest.mark.parametrize("framing", ["chunked", "length", "until close"])
@pytest.mark.parametrize("ending", ["", "eof", "alert", "not a record"])
def test_tls_may_end_in_the_same_read_as_a_piece(wires, ending, framing):
    answer = FRAMED[framing]
    for end_at in (2, 5):
        case = Case(
            "HTTP/1.1",
            provider_tls=True,
            answers=(answer,),
            cuts=(40, 90, 300, 301),
            ending=ending,
            end_at=end_at,
            ends_together=True,
        )
        fast, _ = check(wires, case)
        assert fast.reads["carried"] >= end_at - 1


SHORT = b"event: ping\ndata: {}\n\n"


@pytest.mark.parametrize("ending", ["eof", "reset", "leaves"])
@pytest.mark.parametrize(
    "answer", [(CHUNKED, chunked(SHORT, [16], b"", b"")), (WITH_LENGTH % len(SHORT), SHORT)], ids=["chunked", "length"]
)
def test_either_end_may_leave_after_any_byte(wires, answer, ending):
    carried = 0
    for at in range(1, len(answer[1])):
        fast, _ = check(wires, Case(answers=(answer,), cuts=(at,), ending=ending, end_at=2))
        carried += fast.reads["carried"]
        assert SHORT.startswith(fast.tapped[0])
        assert len(fast.hooks) == 1
    assert carried > len(SHORT) / 2


def test_a_provider_is_not_read_while_an_http2_client_gives_no_window(wires):
    """Two answers, the second of which must be read again although the first ended with its provider not read."""
    answer = FRAMED["chunked"]
    fast, general = check(wires, Case("HTTP/2", answers=(answer, answer), cuts=tuple(range(40, 900, 40)), stalled=(1,)))
    assert fast.tapped == [TEXT, TEXT]
    assert fast.reads["carried"] > 20
    assert min(fast.pauses, general.pauses) >= 1


def test_half_a_line_of_framing_is_left_to_mitmproxy_with_what_follows_it(wires):
    """The second half of a size looks like a size, too."""
    answer = FRAMED["chunked"]
    for at in (m.start() + n for m in re.finditer(rb"[0-9a-f]+\r\n", answer[1]) for n in range(1, len(m[0]))):
        fast, _ = check(wires, Case(answers=(answer,), cuts=(at,)))
        assert fast.tapped == [TEXT]


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("at_once", [False, True], ids=["hooks wait", "hooks at once"])
@pytest.mark.parametrize(("client_tls", "before"), [(False, 0), (True, 2)], ids=["in clear", "in TLS"])
def test_what_comes_together_leaves_together(wires, client_tls, before, at_once, framing):
    """A request leaves by one write, and so does an answer that one read has brought; but its last chunk waits for a hook."""
    case = Case(client_tls=client_tls, answers=(FRAMED[framing],), joins_head=True, at_once=at_once)
    for seen in check(wires, case):
        assert seen.writes == {"provider": 1, "client": before + (1 if at_once or framing == "length" else 2)}


@pytest.mark.parametrize("joins_head", [False, True])
@pytest.mark.parametrize("over", ["HTTP/1.1", "HTTP/2"])
def test_an_answer_whose_hooks_are_over_at_once_takes_the_short_way(wires, over, joins_head):
    """Its head is still being read where its way is chosen."""
    answer = FRAMED["chunked"]
    case = Case(over, answers=(answer, answer), cuts=tuple(range(40, 900, 40)), joins_head=joins_head, at_once=True)
    fast, _ = check(wires, case)
    assert fast.streams == {("fast", ""): 2}
    assert fast.reads["carried"] > 20
