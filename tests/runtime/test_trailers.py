"""Trailers that come as events of their own, as over HTTP/2, reach neither a flow nor the other side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.connection import Client
from mitmproxy.http import Headers
from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.events import Start
from mitmproxy.proxy.layers.http import RequestTrailers, ResponseTrailers, SendHttp
from mitmproxy.test import tflow

from runtime import handing_on
from runtime.layers import GatewayHttpStream

TRAILERS = Headers([(b"x-api-key", b"sk-in-a-trailer")])


@pytest.mark.parametrize(
    "states", [("consume_request_body", "consume_response_body"), ("stream_request_body", "stream_response_body")]
)
@pytest.mark.parametrize("event", [RequestTrailers(1, TRAILERS), ResponseTrailers(1, TRAILERS)])
def test_trailers_are_dropped_where_they_come(event: Any, states: tuple[str, str]) -> None:
    options: Any = Options()
    stream: Any = GatewayHttpStream(Context(Client(peername=None, sockname=None, timestamp_start=0), options), 1)  # type: ignore[arg-type]
    stream.flow = tflow.tflow(resp=True)
    stream.client_state, stream.server_state = (getattr(stream, f"state_{name}") for name in states)
    assert list(stream.handle_event(event)) == []
    assert stream.flow.request.trailers is None
    assert stream.flow.response.trailers is None


@pytest.mark.parametrize("kind", [RequestTrailers, ResponseTrailers])
def test_trailers_that_a_script_has_set_are_not_sent(kind: Any) -> None:
    """Otherwise mitmproxy's HTTP/1 would fail, and leave the client without an answer."""
    client: Any = Client(peername=None, sockname=None, timestamp_start=0)
    own: Any = SimpleNamespace(handle_event=lambda event: [SendHttp(kind(1, TRAILERS), client)])
    sent: list[Any] = []
    http: Any = SimpleNamespace(connections={client: SimpleNamespace(handle_event=lambda event: sent.append(event) or [])})
    assert list(handing_on.event_to_child(http, own, Start())) == []
    assert not sent
