"""Whatever is cut, refused or broken off: a request's body that takes the short way is the one that mitmproxy's general way brings."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import http

from runtime import hooks_at_once
from runtime.requests import arriving_bodies, whole_requests
from runtime.requests.arriving_bodies import ArrivingBody
from runtime.streams import fast_streams
from runtime.streams.fast_streams import FastStreams
from support.hypothesis_profiles import examples
from support.memory_surroundings import find_handlers
from support.memory_wire import MemoryWire, settle

MAX_BYTES = 150_000
"""Bytes of the largest body that is not refused."""

NUMBERS = b"".join(b"%07d " % n for n in range(30_000))
"""A body of which no two places are alike."""

DIGEST_LENGTH = 64

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def request(number: int, body: bytes, is_chunked: bool) -> bytes:
    head = f"POST http://localhost/{number} HTTP/1.1\r\nhost: localhost\r\n".encode()
    if not is_chunked:
        return head + b"content-length: %d\r\n\r\n" % len(body) + body
    return head + b"transfer-encoding: chunked\r\n\r\n" + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"


class Dispatch:
    """Ends a request's hooks where they are asked for, as the gateway's own dispatch does."""

    def __init__(self, hooks: dict[str, Any]) -> None:
        self.hooks = hooks

    def begin(self, event: Any) -> None:
        """Call a hook."""
        self.hooks.get(event.name, id)(event.flow)


@pytest.fixture(scope="module")
def play():
    """Return what sends a client's bytes in pieces, one way or the other, and tells what came of it."""
    current: dict[str, Any] = {}

    def too_large(flow: http.HTTPFlow) -> None:
        flow.response = http.Response.make(413, b"too large")

    def run(pieces: list[bytes], turns: int, ending: str, is_fast: bool, at_once: bool = True) -> tuple[list[Any], list[int]]:
        told: list[Any] = []

        def requestheaders(flow: http.HTTPFlow) -> None:
            flow.sluicegate_body_limit = (MAX_BYTES, too_large)  # type: ignore[attr-defined]

        def came(flow: http.HTTPFlow) -> None:
            told.append((flow.request.path, hashlib.sha256(flow.request.raw_content or b"").hexdigest()))

        def error(flow: http.HTTPFlow) -> None:
            told.append((flow.request.path, flow.error.msg if flow.error else ""))

        async def drive() -> None:
            hooks = {"requestheaders": requestheaders, "request": came, "error": error}
            patch.setattr(hooks_at_once, "dispatch", [Dispatch(hooks)] if at_once else [])
            none: Any = None
            wire = current["wire"] = MemoryWire(hooks, server=none, trust=none, server_files="")

            async def open_connection(*_: Any, **__: Any) -> Any:
                # Otherwise a task that begins at once would have a connection before mitmproxy has noted the task.
                await asyncio.sleep(0)
                return await wire.open_connection()

            patch.setattr(asyncio, "open_connection", open_connection)
            wire.start()
            answered = 0
            try:
                for piece in [*pieces, b""]:
                    if piece:
                        wire.client.arrive("data", piece)
                    elif ending:
                        wire.client.arrive(ending, None)
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    if not turns or not piece:
                        await settle()
                    while wire.requests.count(b"POST /") > answered and not wire.provider.closing and not ending:
                        answered += 1
                        wire.provider.arrive("data", ANSWER)
                        await settle()
                await settle()
                told.extend((bytes(wire.raw), bytes(wire.requests), wire.client.closing))
                left = getattr(wire.client.protocol, "way", None)
                if not ending and left is not None and left.stream.client_state is not left.states[0]:
                    told.append("its connection keeps a request that has come")
            finally:
                await wire.end()
            told.extend(line for line in wire.logged if "crashed" in line)

        kept: list[int] = []
        patch.setattr(FastStreams, "is_on", is_fast)
        patch.setattr(ArrivingBody, "keep", lambda self, data: kept.append(n := keep(self, data)) or n)
        runner.run(drive())
        return told, kept

    keep = ArrivingBody.keep
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        find_handlers(patch, current, fast_streams, arriving_bodies)
        patch.setattr(fast_streams, "services", lambda: SimpleNamespace(streams={}, stream_reads={}))
        patch.setattr(whole_requests, "count", id)
        patch.setattr(FastStreams, "fits", True)
        yield run


SIZES = st.sampled_from([0, 1, 2, 60, 65_400, 65_535, 65_536, 140_000, MAX_BYTES, MAX_BYTES + 1, 200_000])


@settings(max_examples=examples(150, ci=25))
@given(
    sizes=st.lists(st.tuples(SIZES, st.sampled_from([False, False, True])), min_size=1, max_size=3),
    cuts=st.lists(st.floats(0, 1), max_size=6),
    near=st.lists(st.integers(-3, 200), max_size=4),
    turns=st.integers(0, 3),
    ending=st.sampled_from(["", "", "eof", "lost"]),
    is_cut_off=st.booleans(),
    at_once=st.booleans(),
)
def test_a_body_is_the_same_on_both_ways(play, sizes, cuts, near, turns, ending, is_cut_off, at_once):
    bodies = [(b"%08d" % n * (size // 8 + 1))[:size] if n % 2 else NUMBERS[:size] for n, (size, _) in enumerate(sizes)]
    sent = [request(n, body, chunked) for n, (body, (_, chunked)) in enumerate(zip(bodies, sizes, strict=True))]
    whole = b"".join(sent)
    if is_cut_off:
        whole = whole[: len(whole) - len(sent[-1]) // 3]
    edges = [len(sent[0]) + n for n in near]
    at = sorted({0, len(whole), *(int(c * len(whole)) for c in cuts), *(e for e in edges if 0 < e < len(whole))})
    pieces = [whole[a:b] for a, b in itertools.pairwise(at)]
    fast, _ = play(pieces, turns, ending, True, at_once)
    general, kept = play(pieces, turns, ending, False, at_once)
    assert kept == []
    if ending and turns:
        # How far mitmproxy had come when the client left depends on the way: what it had not read by then may be lost to it.
        assert [x for x in fast if isinstance(x, str)] == []
        # That the client has left is said in several ways. A body that came whole is the same one.
        whole_bodies = {x for x in [*fast, *general] if isinstance(x, tuple) and len(x[1]) == DIGEST_LENGTH and " " not in x[1]}
        assert len(whole_bodies) == len({path for path, _ in whole_bodies})
        return
    assert fast == general


def test_all_but_the_first_piece_and_the_last_byte_go_past_mitmproxy(play):
    body = NUMBERS[:140_000]
    # The first read of a connection waits for the choice of its layers.
    whole = request(1, body, False)
    told, kept = play([request(0, b"", False), whole[:80_000], whole[80_000:]], 0, "", True)
    # Of the first piece, mitmproxy reads 65,535 bytes at a time.
    assert kept == [80_000 - 65_535, len(whole) - 80_000 - 1]
    assert told[1] == ("/1", hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("cuts", [[], [-1], [-2], [80_000], [80_000, -1], [80_000, -2]])
@pytest.mark.parametrize("turns", [0, 1])
def test_a_connection_lets_go_of_a_request_that_has_come(play, cuts, turns):
    whole = request(1, NUMBERS[:140_000], False)
    edges = [0, *(cut % len(whole) for cut in cuts), len(whole)]
    told, kept = play([request(0, b"", False), *(whole[a:b] for a, b in itertools.pairwise(edges))], turns, "", True)
    assert kept or turns
    assert "its connection keeps a request that has come" not in told


def test_pieces_of_a_refused_body_go_mitmproxys_way(play):
    whole = request(0, b"x" * (MAX_BYTES + 10), False)
    told, kept = play([whole[:100], whole[100:70_000], whole[70_000:]], 0, "", True)
    assert kept[-1] == 0
    assert b" 413 " in told[1]
