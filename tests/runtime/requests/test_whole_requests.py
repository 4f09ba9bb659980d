"""Whatever is sent, cut, refused or broken off: a request that goes its straight line is the one that mitmproxy's way brings.

Both ways take the same bytes in memory, see ``support.memory_wire``. Client, provider and hooks see the same, and every layer is
left in the same state.
"""

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
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import Http1Client, HTTPMode, RequestData, RequestEndOfMessage
from mitmproxy.proxy.mode_specs import ProxyMode

from runtime import hooks_at_once
from runtime.layers import GatewayHttpLayer
from runtime.requests import arriving_bodies, known_ways, straight_line, whole_requests
from runtime.resources import release_memory, size_limits
from runtime.streams import fast_streams
from runtime.streams.fast_streams import FastStreams
from support.certificates import server_context
from support.hypothesis_profiles import examples
from support.memory_surroundings import call_hooks, find_handlers
from support.memory_wire import MemoryWire, options, settle

MAX_BYTES = 3000
"""Bytes of the largest body that is not refused, and of one that mitmproxy's own limit lets pass."""

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"

BODY = b"0123456789"
HOST, LENGTH = b"host: localhost\r\n", b"content-length: 10\r\n"

FORMS: dict[str, bytes] = {
    "plain": b"POST %b HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "no body": b"GET %b HTTP/1.1\r\n" + HOST + b"\r\n",
    "no length": b"POST %b HTTP/1.1\r\n" + HOST + b"\r\n",
    "empty body": b"POST %b HTTP/1.1\r\n" + HOST + b"content-length: 0\r\n\r\n",
    "head": b"HEAD %b HTTP/1.1\r\n" + HOST + b"\r\n",
    "many headers": b"POST %b HTTP/1.1\r\nHOST:localhost\r\nx-a:\t1 \r\nX-A: \xff\xe9\r\nx-b:\r\nCookie: a=1\r\ncOOKIE: b\r\n"
    + b"Content-Length:   10\r\n\r\n"
    + BODY,
    "closes": b"POST %b HTTP/1.1\r\n" + HOST + b"Connection: close\r\n" + LENGTH + b"\r\n" + BODY,
    "keeps": b"POST %b HTTP/1.1\r\n" + HOST + b"connection: keep-alive, x\r\n" + LENGTH + b"\r\n" + BODY,
    "version 1.0": b"POST %b HTTP/1.0\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "version 1.0 kept": b"POST %b HTTP/1.0\r\nconnection: keep-alive\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "version 2.0": b"POST %b HTTP/2.0\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "version 1.9": b"POST %b HTTP/1.9\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "bad version": b"POST %b HTTP/11\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "small version": b"POST %b http/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "more spaces": b"POST   %b\tHTTP/1.1 \r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "two words": b"POST %b\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "odd method": b"p\xffST %b HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "small connect": b"connect %b HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "no target": b"POST * HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "odd scheme": b"POST ftp://localhost:21/ HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "bad target": b"POST localhost HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "another authority": b"POST HTTP://localhost:80 HTTP/1.1\r\nhost: elsewhere\r\n" + LENGTH + b"\r\n" + BODY,
    "no host": b"POST %b HTTP/1.1\r\n" + LENGTH + b"\r\n" + BODY,
    "bad host": b"POST %b HTTP/1.1\r\nhost: a b\r\n" + LENGTH + b"\r\n" + BODY,
    "empty host": b"POST %b HTTP/1.1\r\nhost:\r\n" + LENGTH + b"\r\n" + BODY,
    "two hosts": b"POST %b HTTP/1.1\r\n" + HOST + b"host: elsewhere\r\n" + LENGTH + b"\r\n" + BODY,
    "host with port": b"POST %b HTTP/1.1\r\nhost: localhost:8080\r\n" + LENGTH + b"\r\n" + BODY,
    "two lengths": b"POST %b HTTP/1.1\r\n" + HOST + LENGTH + LENGTH + b"\r\n" + BODY,
    "other length": b"POST %b HTTP/1.1\r\n" + HOST + LENGTH + b"Content-length: 11\r\n\r\n" + BODY,
    "listed lengths": b"POST %b HTTP/1.1\r\n" + HOST + b"content-length: 10, 10\r\n\r\n" + BODY,
    "signed length": b"POST %b HTTP/1.1\r\n" + HOST + b"content-length: +10\r\n\r\n" + BODY,
    "padded length": b"POST %b HTTP/1.1\r\n" + HOST + b"content-length: 010\r\n\r\n" + BODY,
    "long length": b"POST %b HTTP/1.1\r\n" + HOST + b"content-length: 99999999999999999999\r\n\r\n" + BODY,
    "length of many digits": b"POST %b HTTP/1.1\r\n" + HOST + b"content-length: " + b"9" * 5000 + b"\r\n\r\n" + BODY,
    "no number": b"POST %b HTTP/1.1\r\n" + HOST + b"content-length:\r\n\r\n" + BODY,
    "chunked": b"POST %b HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
    "chunked and length": b"POST %b HTTP/1.1\r\n"
    + HOST
    + LENGTH
    + b"transfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
    "expects": b"POST %b HTTP/1.1\r\n" + HOST + LENGTH + b"Expect: 100-continue\r\n\r\n" + BODY,
    "upgrades": b"GET %b HTTP/1.1\r\n" + HOST + b"upgrade: websocket\r\n\r\n",
    "folded": b"POST %b HTTP/1.1\r\n" + HOST + b"x-a: 1\r\n 2\r\n" + LENGTH + b"\r\n" + BODY,
    "folded at once": b"POST %b HTTP/1.1\r\n x: 1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "no colon": b"POST %b HTTP/1.1\r\n" + HOST + b"x-a\r\n" + LENGTH + b"\r\n" + BODY,
    "no name": b"POST %b HTTP/1.1\r\n" + HOST + b": 1\r\n" + LENGTH + b"\r\n" + BODY,
    "odd name": b"POST %b HTTP/1.1\r\n" + HOST + b"x a: 1\r\n" + LENGTH + b"\r\n" + BODY,
    "spaced length": b"POST %b HTTP/1.1\r\n" + HOST + b"content-length : 10\r\n\r\n" + BODY,
    "bare line ends": b"POST %b HTTP/1.1\n" + HOST + LENGTH + b"\n" + BODY,
    "one bare line end": b"POST %b HTTP/1.1\r\n" + HOST + b"x: 1\n" + LENGTH + b"\r\n" + BODY,
    "bare line end among others": b"POST %b HTTP/1.1\r\n" + HOST + b"x: 1\ny: 2\r\n" + LENGTH + b"\r\n" + BODY,
    "bare blank line": b"POST %b HTTP/1.1\r\n" + HOST + b"content-length: 14\n\n0123456789\r\n\r\n",
    "more returns": b"POST %b HTTP/1.1\r\r\n" + HOST + LENGTH + b"\r\r\n\r\n" + BODY,
    "line before": b"\r\nPOST %b HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "lines before": b"\r\n\r\nPOST %b HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "nothing but a line": b"POST %b HTTP/1.1\r\n\r\n",
    "blank lines in the body": b"POST %b HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n\r\n\r\n\r\n\r\n\r\n",
    "too long": b"POST %b HTTP/1.1\r\n" + HOST + b"content-length: 3001\r\n\r\n" + b"-" * 3001,
    "far too long": b"POST %b HTTP/1.1\r\n" + HOST + b"content-length: 4001\r\n\r\n" + b"-" * 4001,
    "long": b"POST %b HTTP/1.1\r\n" + HOST + b"content-length: 3000\r\n\r\n" + b"-" * 3000,
    "more": b"POST %b HTTP/1.1\r\n"
    + HOST
    + LENGTH
    + b"\r\n"
    + BODY
    + b"GET http://localhost/more HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "more of another": b"POST %b HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY + b"GET /",
    "less": b"POST %b HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY[:-1],
}

GOES_FAST = {
    *("plain", "no body", "no length", "empty body", "head", "many headers", "closes", "keeps", "more spaces", "odd method"),
    *(
        "no target",
        "another authority",
        "no host",
        "bad host",
        "empty host",
        "two hosts",
        "host with port",
        "blank lines in the body",
        "long",
    ),
}
"""The forms that are taken whole where the target is absolute; all others are mitmproxy's."""


def changed(**fields: Any) -> Any:
    def change(flow: http.HTTPFlow) -> None:
        for name, value in fields.items():
            setattr(flow.request, name, value)

    return change


def header(name: str, value: str | None) -> Any:
    def change(flow: http.HTTPFlow) -> None:
        if value is None:
            flow.request.headers.pop(name, None)
        else:
            flow.request.headers[name] = value

    return change


def refused(flow: http.HTTPFlow) -> None:
    flow.response = http.Response.make(429, f"{flow.request.path} refused")
    # It begins when it is given.
    flow.response.timestamp_start = 0


def another(flow: http.HTTPFlow) -> None:
    flow.request = http.Request.make("POST", "http://localhost/another", b"another body", {"host": "localhost"})


def trailing(flow: http.HTTPFlow) -> None:
    flow.request.headers["transfer-encoding"] = "chunked"
    flow.request.headers.pop("content-length", None)
    flow.request.trailers = http.Headers([(b"x", b"y")])


DOES: dict[str, Any] = {
    "passes": lambda flow: None,
    "refuses": refused,
    "is killed": lambda flow: flow.kill(),
    "streams": changed(stream=True),
    "goes elsewhere": changed(host="elsewhere"),
    "goes to a port": changed(port=81),
    "goes in TLS": changed(scheme="https"),
    "goes in clear": changed(scheme="http"),
    "has another version": changed(http_version="HTTP/2.0"),
    "has an old version": changed(http_version="HTTP/1.0"),
    "has another body": changed(content=b"other"),
    "has no body": changed(content=None),
    "has more body": lambda flow: setattr(flow.request.data, "content", b"more than that"),
    "is another": another,
    "is chunked": header("transfer-encoding", "chunked"),
    "is compressed": header("transfer-encoding", "gzip"),
    "has no length": header("content-length", None),
    "expects": header("expect", "100-continue"),
    "closes": header("connection", "close"),
    "has trailers": trailing,
    "has nothing but trailers": changed(trailers=http.Headers([(b"x", b"y")])),
    "is hidden in a value": header("x-a", "1\r\ncontent-length: 3"),
}
"""What a hook does to a flow."""

HOOKS = ("requestheaders", "request", "responseheaders", "response")


class Hooks:
    """What happens at each hook, by what is in the request's path: ``waits``, and then one of ``DOES``."""

    def __init__(self) -> None:
        self.called: list[Any] = []

    def call(self, name: str, flow: http.HTTPFlow) -> Any:
        """Call a hook; return what is to be awaited of it."""
        self.called.append(picture_of_flow(name, flow))
        at, _, does = flow.request.path.partition("?")[2].replace("-", " ").partition(":")
        if name == "requestheaders":
            flow.sluicegate_body_limit = (MAX_BYTES, too_large)  # type: ignore[attr-defined]
        if at.removeprefix("waits at ") != name:
            return None
        if at.startswith("waits"):
            return self.wait(flow, does)
        DOES[does](flow)
        return None

    async def wait(self, flow: http.HTTPFlow, does: str) -> None:
        """Wait, and then act."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        DOES[does](flow)


def too_large(flow: http.HTTPFlow) -> None:
    flow.response = http.Response.make(413, b"too large")


def picture_of_flow(name: str, flow: http.HTTPFlow) -> Any:
    """Return all that a hook can see of a flow, except when it was."""
    data, request = flow.request.data, flow.request
    own = [getattr(request, field, "") for field in ("origin_form", "asks_to_close", "named_authority", "stream")]
    ends = (data.timestamp_start > 0, data.timestamp_end is None or data.timestamp_end >= data.timestamp_start)
    fields = (data.method, data.scheme, data.authority, data.host, data.port, data.path, data.http_version, data.headers.fields)
    answer = flow.response and (flow.response.status_code, flow.response.timestamp_start > 0)
    flow_is = (flow.live, flow.error and flow.error.msg, answer, flow.intercepted)
    server = (flow.server_conn.address, flow.server_conn.connected, flow.server_conn.tls, flow.server_conn.via)
    return name, fields, data.content, data.trailers, ends, data.timestamp_end is None, own, flow_is, server


def name_of(state: Any) -> str:
    return getattr(state, "__name__", repr(state))


def picture_of_side(side: Any) -> Any:
    reader = getattr(side, "body_reader", None)
    known = (side.stream_id, side.request is None, side.response is None, side.request_done, side.response_done)
    return (
        name_of(side.state),
        known,
        type(reader).__name__,
        getattr(reader, "_remaining", None),
        bytes(side.buf),
        name_of(side._paused),
    )


def picture(wire: MemoryWire) -> Any:
    """Return the state of all layers."""
    seen: list[Any] = []
    for layer in release_memory.http_layers.get(wire.handler.client.id, []):
        for connection, below in layer.connections.items():
            top = below.context.layers[-1]
            seen.append((type(below).__name__, [type(x).__name__ for x in below.context.layers], connection.state))
            if connection is layer.context.client or isinstance(top, Http1Client):
                seen.append(picture_of_side(top))
        for number, stream in layer.streams.items():
            waiting = [type(e).__name__ for e in stream._paused_event_queue if not isinstance(e, RequestData | RequestEndOfMessage)]
            paused = type(stream._paused.command).__name__ if stream._paused else ""
            states = (name_of(stream.client_state), name_of(stream.server_state), len(stream.request_body_buf))
            layers = [type(x).__name__ for x in stream.context.layers]
            seen.append((number, states, paused, waiting, layers, stream.context.server.address, stream.discarded_bytes))
        seen.append((len(layer.command_sources), {c.address for c, w in layer.waiting_for_establishment.items() if w}))
    return seen


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """Return what sends a client's bytes in pieces, one way or the other, and tells what came of it."""
    folder = tmp_path_factory.mktemp("tls")
    server, _ = server_context(folder)
    current: dict[str, Any] = {}

    def run(
        pieces: list[bytes],
        is_fast: bool,
        *,
        turns: int = -1,
        ending: str = "",
        at_once: bool = True,
        tls: bool = False,
        mode: str = "regular",
    ) -> tuple[Any, list[tuple[str, str]]]:
        async def drive() -> Any:
            hooks, seen, counted = Hooks(), [], []
            none: Any = None

            def next_layer(nextlayer: Any) -> None:
                context = nextlayer.context
                if not any(isinstance(x, modes.HttpProxy) for x in context.layers):
                    nextlayer.layer = modes.HttpProxy(context)
                    return
                context.server.address = {"reverse": ("localhost", 80), "transparent": ("elsewhere", 81)}.get(mode)
                nextlayer.layer = GatewayHttpLayer(context, HTTPMode.transparent if mode == "transparent" else HTTPMode.regular)

            wire = current["wire"] = MemoryWire(
                {"next_layer": next_layer}, provider_tls=tls, server=server, trust=none, server_files=""
            )
            wire.handler.client.tls = mode == "by TLS"
            if mode == "reverse":
                wire.handler.client.proxy_mode = ProxyMode.parse("reverse:http://localhost:80")

            async def open_connection(*to: Any, **_: Any) -> Any:
                await asyncio.sleep(0)
                seen.append(f"dials {to}")
                if ending == "refused":
                    raise ConnectionRefusedError("refused")
                return await wire.open_connection()

            call_hooks(wire, lambda hook: hooks.call(hook.name, hook.flow))
            patch.setattr(asyncio, "open_connection", open_connection)
            patch.setattr(
                hooks_at_once, "dispatch", [SimpleNamespace(begin=lambda e: hooks.call(e.name, e.flow))] if at_once else []
            )
            patch.setattr(whole_requests, "count", counted.append)
            # All else that is fast is so on both ways: what comes is read in the same steps.
            patch.setattr(FastStreams, "is_on", True)
            patch.setattr(whole_requests, "fast_streams", fast_streams if is_fast else SimpleNamespace(is_on=lambda: False))
            wire.start()
            answered = 0
            try:
                for number, piece in enumerate([*pieces, b""]):
                    if piece:
                        wire.client.arrive("data", piece)
                    elif ending in ("eof", "lost"):
                        wire.client.arrive(ending, None)
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    if turns >= 0 and piece:
                        continue
                    await settle()
                    seen.append(picture(wire))
                    while wire.provider is not None and not wire.provider.closing and not (ending in ("eof", "lost") and not piece):
                        asked = len(re.findall(rb"(?:^|0123456789|\n|-)\w+ \S+ HTTP/", bytes(wire.requests)))
                        if asked <= answered:
                            break
                        answered += 1
                        body = b"" if wire.requests.startswith(b"HEAD") else b"answer %d" % answered
                        reply = ANSWER % (len(body), body)
                        wire.provider.arrive("data", wire.provider_tls.encrypt(reply) if wire.provider_tls else reply)
                        await settle()
                        if ending == "provider leaves" and number == 0:
                            wire.provider.arrive("eof")
                            await settle()
                        elif ending == "provider is lost" and number == 0:
                            wire.provider.arrive("lost", ConnectionResetError("reset"))
                            await settle()
                        seen.append(picture(wire))
                await settle()
                crashed = [line.splitlines()[-1] for line in wire.logged if "crashed" in line]
                return (hooks.called, bytes(wire.raw), bytes(wire.requests), wire.client.closing, crashed, seen), counted
            finally:
                await wire.end()

        found, counted = runner.run(drive())
        return found, [("general", why) if why else ("fast", "") for why in counted]

    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        find_handlers(patch, current, fast_streams, arriving_bodies)
        patch.setattr(fast_streams, "services", lambda: SimpleNamespace(streams={}, stream_reads={}))
        patch.setattr(FastStreams, "fits", True)
        patch.setattr(size_limits, "MAX_DISCARDED_BYTES", 3500)
        yield run
        release_memory.http_layers.clear()


def request(number: int, form: str = "plain", does: str = "", target: str = "http://localhost/%d") -> bytes:
    named = (target % number + (f"?{does.replace(' ', '-')}" if does else "")).encode()
    return FORMS[form].replace(b"%b", named, 1)


def both(play: Any, pieces: list[bytes], **how: Any) -> list[tuple[str, str]]:
    """Play both ways, expect the same of both, and return which way each request took."""
    (fast, ways), (general, off) = play(pieces, True, **how), play(pieces, False, **how)
    assert {why for _, why in off} <= {"off"}
    assert ("general", "error") not in ways
    for own, stock in zip(fast, general, strict=True):
        assert own == stock
    return ways


FIRST = request(0)
"""A request before the one that is looked at: with the first read of a connection its layers are chosen, and it opens the provider's."""


@pytest.mark.parametrize("target", ["http://localhost/%d", "/%d"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_request_is_the_same_on_both_ways(play, form, target):
    ways = both(play, [FIRST, request(1, form, target=target), request(2, form, target=target), request(3)])
    is_fast = form in GOES_FAST and (target[0] == "h" or form not in ("no host", "bad host", "empty host", "two hosts"))
    if form not in ("more", "more of another", "less"):
        assert (("fast", "") in ways[1:3]) is is_fast


@pytest.mark.parametrize("at", [f"{waits}{hook}" for waits in ("", "waits at ") for hook in HOOKS[:2]])
@pytest.mark.parametrize("does", [does for does in DOES if does != "goes in TLS"])
def test_whatever_a_hook_does_is_the_same_on_both_ways(play, does, at):
    for form in ("plain", "no body"):
        both(play, [FIRST, request(1, form, f"{at}:{does}"), request(2), request(3)])


@pytest.mark.parametrize("form", ["plain", "long"])
def test_a_request_is_the_same_wherever_it_is_cut(play, form):
    whole = request(1, form)
    head = whole.index(b"\r\n\r\n") + 4
    first = 1 if form == "plain" else head - 3
    for cut in [*range(first, head + 6), *range(len(whole) - 5, len(whole))]:
        ways = both(play, [FIRST, whole[:cut], whole[cut:], request(2)])
        assert ways[1:] == [("general", "parts"), ("fast", "")]


@pytest.mark.parametrize("ending", ["refused", "eof", "lost", "provider leaves", "provider is lost"])
@pytest.mark.parametrize("at", ["", "waits at requestheaders:passes", "waits at request:passes", "request:goes elsewhere"])
@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 4])
def test_either_end_may_leave_at_any_moment(play, ending, at, turns):
    for pieces in ([request(0, does=at)], [FIRST, request(1, does=at)], [FIRST, request(1), request(2, does=at)]):
        both(play, pieces, ending=ending, turns=turns)


@pytest.mark.parametrize("mode", ["regular", "transparent", "reverse", "by TLS"])
@pytest.mark.parametrize("tls", [False, True])
def test_modes_and_tls_are_the_same_on_both_ways(play, mode, tls):
    does = f"requestheaders:{'goes in TLS' if tls else 'goes in clear'}"
    asked = [request(n, form, does, "/%d") for n, form in enumerate(("plain", "no body", "long", "plain"))]
    ways = both(play, asked, mode=mode, tls=tls)
    assert ways[1:] == [("general", "target") if mode == "reverse" else ("fast", "")] * 3


@pytest.mark.parametrize("line", [b"x-a", b"x-a:", b"x-a :1", b" x-a: 1", b"x-a: 1\r\n 2", b"X-A: 1", b"x-a: 1\nx-b: 2", b"x-b: 1"])
@pytest.mark.parametrize(
    "length", [b"content-length: 10", b"content-length: 010", b"content-length: -1", b"content-length: 1_0", b"content-length"]
)
def test_what_is_known_by_names_is_not_taken_for_more(play, line, length):
    head = b"POST http://localhost/%d HTTP/1.1\r\nhost: localhost\r\n%b\r\n%b\r\n\r\n0123456789"
    usual = head % (1, b"x-a: 1", b"content-length: 10")
    both(play, [FIRST, usual, head % (2, line, length), request(3)])


@pytest.mark.parametrize("form", ["small connect", "plain", "chunked", "less", "more", "expects"])
def test_the_last_piece_of_a_body_is_the_same_on_both_ways(play, form):
    whole = request(1, form)
    for cut in (1, 2, len(BODY)):
        both(play, [FIRST, whole[:-cut], whole[-cut:], request(2)])
        both(play, [request(0, form)[:-cut], request(0, form)[-cut:], request(2)])


@pytest.mark.parametrize("does", ["streams", "refuses", "is killed", "expects", "passes", "goes elsewhere"])
@pytest.mark.parametrize("waits", ["", "waits at "])
def test_the_last_piece_is_the_same_whatever_came_of_the_head(play, waits, does):
    whole = request(1, "plain", f"{waits}requestheaders:{does}")
    for turns in (-1, 0, 1):
        both(play, [FIRST, whole[:-3], whole[-3:], request(2)], turns=turns)
    # The answer comes when all has been sent.
    both(play, [whole[:-3], whole[-3:]], turns=8)


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_what_comes_with_a_connect_is_the_same_on_both_ways(play, cut):
    inside = request(1, target="/%d")
    connect = b"CONNECT localhost:80 HTTP/1.1\r\n\r\n"
    at = len(connect) + len(inside) - cut
    ways = both(
        play, [piece for piece in (connect + inside[: at - len(connect)], inside[at - len(connect) :], request(2)) if piece]
    )
    assert ways[-1] == ("fast", "")
    (*_, seen), _ = play([connect, inside, request(2)], True)
    # What is inside is not kept outside as well.
    assert [side[4] for side in seen[-1] if side[0] == "passthrough"] == [b""]


def test_a_connection_in_tls_is_not_taken_for_one_in_clear(play):
    both(play, [request(0, does="requestheaders:goes in TLS"), request(1), request(2, does="requestheaders:goes in TLS")], tls=True)


@pytest.mark.parametrize("limits", [("2900", "1m"), ("1m", "2900"), ("2900", "2900")])
def test_limits_of_mitmproxy_hold_on_both_ways(play, limits):
    options().update(**dict(zip(("body_size_limit", "stream_large_bodies"), limits, strict=True)))
    try:
        both(play, [FIRST, request(1, "long"), request(2)])
        both(play, [FIRST, request(1, "long", "request:refuses"), request(2)])
    finally:
        options().update(body_size_limit=None, stream_large_bodies=None)


def test_headers_are_checked_where_mitmproxy_is_told_not_to(play):
    options().update(validate_inbound_headers=False)
    try:
        for form in FORMS:
            both(play, [FIRST, request(1, form), request(2)])
    finally:
        options().update(validate_inbound_headers=True)


@settings(max_examples=examples(300, ci=25))
@given(
    asked=st.lists(
        st.tuples(
            st.sampled_from([*["plain"] * 20, *FORMS]),
            st.sampled_from(
                ["", *(f"{w}{h}:{d}" for w in ("", "waits at ") for h in HOOKS for d in ("passes", "refuses", "is killed"))]
            ),
        ),
        min_size=1,
        max_size=4,
    ),
    cuts=st.sets(st.integers(1, 900), max_size=3),
    turns=st.integers(-1, 4),
    at_once=st.booleans(),
)
def test_any_requests_are_the_same_on_both_ways(play, asked, cuts, turns, at_once):
    sent = [request(n, form, does) for n, (form, does) in enumerate(asked)]
    edges = set(itertools.accumulate(map(len, sent)))
    whole = b"".join(sent)
    at = sorted({0, len(whole), *edges, *(c for c in cuts if c < len(whole))})
    both(play, [whole[a:b] for a, b in itertools.pairwise(at)], turns=turns, at_once=at_once)


def test_a_plain_request_goes_fast_once_its_connection_is_there(play):
    _, ways = play([FIRST, request(1), request(2, "no body"), request(3)], True)
    assert ways == [("general", "new_connection"), *[("fast", "")] * 3]


def test_it_is_taken_where_mitmproxy_is_as_known():
    assert known_ways.FITS


def test_with_another_mitmproxy_all_is_left_to_it(play, monkeypatch):
    monkeypatch.setattr(known_ways, "FITS", False)
    monkeypatch.setattr(straight_line, "begin", None)
    ways = both(play, [FIRST, request(1)])
    assert ways == [("general", "unfit")] * 2
