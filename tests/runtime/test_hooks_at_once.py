"""Hooks that end where they are asked for: client, provider and hooks see what they see where mitmproxy takes each to a task."""

from __future__ import annotations

import asyncio
import itertools
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.test import tflow

from runtime import dispatch, hooks_at_once
from runtime.requests import whole_requests
from runtime.streams import fast_streams
from runtime.streams.fast_streams import FastStreams
from support.hypothesis_profiles import examples
from support.memory_surroundings import call_hooks, find_handlers
from support.memory_wire import MemoryWire, settle

DOES = (
    "passes",
    "passes",
    "waits",
    "refuses",
    "refuses at its head",
    "is killed",
    "is killed at its head",
    "streams",
    "refuses late",
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n%04d"


class Hooks:
    """What happens at each hook, by what is in the request's path; those that wait return a coroutine."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def call(self, name: str, flow: http.HTTPFlow) -> Any:
        """Call a hook; return what is to be awaited of it."""
        self.called.append(f"{name} {flow.request.path}")
        does = flow.request.path.partition("?")[2].replace("-", " ")
        if does == "waits" or (does == "refuses late" and name == "request"):
            return self.wait(name, flow, does)
        self.act(name, flow, does)
        return None

    async def wait(self, name: str, flow: http.HTTPFlow, does: str) -> None:
        """Wait, and then act."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.act(name, flow, does)

    def act(self, name: str, flow: http.HTTPFlow, does: str) -> None:
        """Do what this request's hooks do."""
        at_head = "head" in does
        if name == ("requestheaders" if at_head else "request"):
            if does.startswith("refuses"):
                flow.response = http.Response.make(429, f"{flow.request.path} refused")
            elif "killed" in does:
                flow.kill()
        elif name == "responseheaders" and does == "streams":
            flow.response.stream = True  # type: ignore[union-attr]


class Direct:
    """The dispatch of hooks in place of the gateway's own."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks

    def begin(self, event: Any) -> Any:
        """Call a hook up to where it waits."""
        return self.hooks.call(event.name, event.flow)


@pytest.fixture(scope="module")
def play():
    """Return what sends a client's bytes in pieces, with hooks at once or mitmproxy's way, and tells what came of it."""
    current: dict[str, Any] = {}

    def run(pieces: list[bytes], turns: int, at_once: bool) -> tuple[list[str], bytes, bytes, bool, list[str]]:
        async def drive() -> Any:
            hooks = Hooks()
            none: Any = None
            wire = current["wire"] = MemoryWire({}, server=none, trust=none, server_files="")

            async def open_connection(*_: Any, **__: Any) -> Any:
                await asyncio.sleep(0)
                return await wire.open_connection()

            call_hooks(wire, lambda hook: hooks.call(hook.name, hook.flow))
            patch.setattr(asyncio, "open_connection", open_connection)
            patch.setattr(hooks_at_once, "dispatch", [Direct(hooks)] if at_once else [])
            wire.start()
            answered = 0
            try:
                for piece in [*pieces, b"", b"", b""]:
                    if piece:
                        wire.client.arrive("data", piece)
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    while True:
                        if not piece:
                            await settle()
                        asked = re.findall(rb"POST /(\d+)", wire.requests)
                        if len(asked) <= answered or wire.provider is None or wire.provider.closing:
                            break
                        wire.provider.arrive("data", ANSWER % int(asked[answered]))
                        answered += 1
                await settle()
                return hooks.called, bytes(wire.raw), bytes(wire.requests), wire.client.closing, wire.logged
            finally:
                await wire.end()

        called, raw, requests, closing, logged = runner.run(drive())
        return called, raw, requests, closing, [line for line in logged if "crashed" in line]

    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        find_handlers(patch, current, fast_streams)
        patch.setattr(fast_streams, "services", lambda: SimpleNamespace(streams={}, stream_reads={}))
        patch.setattr(whole_requests, "count", id)
        patch.setattr(FastStreams, "is_on", False)
        yield run


def request(number: int, does: str, size: int) -> bytes:
    head = f"POST http://localhost/{number}?{does.replace(' ', '-')} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n"
    return head.encode() + b"x" * size


@settings(max_examples=examples(200, ci=40))
@given(
    asked=st.lists(st.tuples(st.sampled_from(DOES), st.integers(0, 30)), min_size=1, max_size=5),
    cuts=st.sets(st.integers(1, 600), max_size=5),
    turns=st.integers(0, 4),
)
def test_both_ways_are_the_same_to_hooks_client_and_provider(play, asked, cuts, turns):
    sent = b"".join(request(n, does, size) for n, (does, size) in enumerate(asked))
    at = [0, *sorted(c for c in cuts if c < len(sent)), len(sent)]
    pieces = [sent[a:b] for a, b in itertools.pairwise(at)]
    own, stock = play(pieces, turns, True), play(pieces, turns, False)
    assert own[-1] == stock[-1] == []
    if any("killed" in does for does, _ in asked):
        # Whether mitmproxy itself closes the socket of such a client depends on what its task waits for: the gateway does it.
        own, stock = own[:3], stock[:3]
    assert own == stock


@pytest.mark.parametrize("does", ["refuses", "passes"])
def test_requests_sent_ahead_are_answered_one_after_another(play, does):
    count = 600
    sent = b"".join(request(n, does, 0) for n in range(count))
    called, raw, _, _, crashed = play([sent], 0, True)
    assert crashed == []
    assert raw.count(b"HTTP/1.1 ") == count
    assert [line.split()[1] for line in called if line.startswith("response ")] == [f"/{n}?{does}" for n in range(count)]


def test_what_the_dispatch_leaves_is_what_waits_or_has_failed():
    async def check() -> None:
        flow, done = tflow.tflow(), []

        async def waits(_: object) -> None:
            await asyncio.sleep(0)
            done.append("waited")

        def fails(_: object) -> None:
            raise dispatch.exceptions.OptionsError("meant to")

        cached = object.__new__(dispatch.CachedDispatch)
        cached.readers = {}
        event = dispatch.hooks.all_hooks["request"](flow)
        cached.turns = {"update": [], "request": [([(lambda _: done.append("first"), None, None)], False)]}
        assert cached.begin(event) is None
        cached.turns["request"].append(([(waits, None, None)], False))
        rest = cached.begin(event)
        assert done == ["first", "first"]
        assert rest is not None
        await rest
        assert done == ["first", "first", "waited"]
        cached.turns["request"] = [([(fails, None, None)], False)]
        failed = cached.begin(event)
        assert failed is not None
        with pytest.raises(dispatch.exceptions.OptionsError):
            await failed

    asyncio.run(check())


def test_a_hook_whose_flow_is_intercepted_is_not_over(monkeypatch):
    flow = tflow.tflow()
    monkeypatch.setattr(hooks_at_once, "dispatch", [SimpleNamespace(begin=lambda hook: hook.flow.intercept())])
    hook: Any = dispatch.hooks.all_hooks["request"](flow)
    assert not hooks_at_once.is_over(hook)
    assert not hooks_at_once.is_over(hook)
    hook.sluicegate_begun.close()
    del hook.sluicegate_begun
    flow.resume()
    monkeypatch.setattr(hooks_at_once, "dispatch", [SimpleNamespace(begin=lambda hook: None)])
    assert hooks_at_once.is_over(hook)
    monkeypatch.setattr(hooks_at_once, "dispatch", [])
    assert not hooks_at_once.is_over(hook)
