"""A request's body comes to its stream as mitmproxy's own reader would bring it, wherever it is cut, and without copies."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.proxy import events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import Http1Server, ReceiveHttp, RequestData
from mitmproxy.test import tflow

from runtime.layers import GatewayHttp1Server
from runtime.requests import whole_requests
from support.memory_wire import options

BODY = b"0123456789 of a body\r\n\r\n0\r\n\r\n"
LENGTH, CHUNKS = (
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY),
    b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
)


@pytest.fixture(scope="module", autouse=True)
def uncounted():
    """Leave out the counter of requests, which is kept by the gateway's services."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_requests, "count", id)
        yield


def read(side: type[Http1Server], pieces: list[bytes], closes: bool = False) -> tuple[list[str], list[bytes]]:
    """Return what a stream is told in this order, data that follows data joined, and the pieces of data."""
    context = Context(tflow.tclient_conn(), options())
    server, told, data = side(context), [], []
    happening = [events.Start(), *(events.DataReceived(context.client, p) for p in pieces)]
    for event in [*happening, *([events.ConnectionClosed(context.client)] if closes else [])]:
        for command in server.handle_event(event):
            if isinstance(command, ReceiveHttp) and isinstance(command.event, RequestData):
                data.append(command.event.data)
                told += ["data"] if told[-1:] != ["data"] else []
            else:
                about = getattr(command, "event", None)
                told.append(f"{type(command).__name__} {type(about).__name__} {getattr(about, 'message', '')}")
    return [*told, repr(bytes(server.buf))], data


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("framed", [LENGTH, CHUNKS], ids=["length", "chunked"])
@given(
    cuts=st.sets(st.integers(1, 160), max_size=8),
    least=st.integers(0, 40),
    ahead=st.sampled_from([b"", b"POST http://localhost/ HT"]),
)
def test_a_body_comes_alike_wherever_it_is_cut(framed, closes, cuts, least, ahead):
    sent = b"POST http://localhost/ HTTP/1.1\r\nhost: localhost\r\n" + framed + ahead
    sent = sent[: len(sent) - least] if closes else sent
    at = [0, *sorted(c for c in cuts if c < len(sent)), len(sent)]
    pieces = [sent[a:b] for a, b in itertools.pairwise(at)]
    stock, own = read(Http1Server, pieces, closes), read(GatewayHttp1Server, pieces, closes)
    assert (own[0], b"".join(own[1])) == (stock[0], b"".join(stock[1]))


def test_a_piece_that_is_neither_the_first_nor_the_last_is_not_copied():
    pieces = [b"POST http://localhost/ HTTP/1.1\r\nhost: x\r\ncontent-length: 3000\r\n\r\n", *(bytes([n]) * 1000 for n in range(3))]
    _, data = read(GatewayHttp1Server, pieces)
    assert data == pieces[1:]
    assert [got is sent for got, sent in zip(data, pieces[1:], strict=True)] == [True, True, False]
