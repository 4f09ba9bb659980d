"""Trailers: headers that follow a body go no further, in either direction.

Any recipient may leave them out. mitmproxy gives a connection up over them wherever one side of it speaks HTTP/1, with a
traceback that quotes them; and a credential among them would have met no check.
"""

from __future__ import annotations

from typing import Any

import h11
from mitmproxy import http
from mitmproxy.proxy.layers.http import _http1

from flow import Addon, enforcing, observing


class WithoutTrailers:
    """Reads a chunked body of HTTP/1 and ends where its last chunk does."""

    def __init__(self, reader: Any) -> None:
        self.read_eof = reader.read_eof
        self._reader = reader

    def __call__(self, buffer: Any) -> Any:
        """The next event in the buffer, if there is one."""
        event = self._reader(buffer)
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event


class Trailers(Addon):
    """Takes them off before anything is sent on."""

    def running(self) -> None:
        """mitmproxy: the proxy is up."""
        super().running()
        stock = getattr(_http1, "make_body_reader", None)
        if stock is None or getattr(stock, "leaves_out_trailers", False):
            return

        def make_body_reader(expected_size: int | None) -> Any:
            reader = stock(expected_size)
            return WithoutTrailers(reader) if expected_size is None else reader

        make_body_reader.leaves_out_trailers = True  # type: ignore[attr-defined]
        _http1.make_body_reader = make_body_reader

    @enforcing
    def request(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the request is complete, and about to be judged."""
        flow.request.trailers = None

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the answer is complete; its trailers would be sent now."""
        if flow.response is not None:
            flow.response.trailers = None


addons = [Trailers()]
