"""Trailers: header fields that follow a body are dropped, in either direction.

Any recipient may leave them out (RFC 9110, 6.5.1). mitmproxy ends a connection because of them wherever one
side of it speaks HTTP/1, with a traceback that quotes them; and no check would have seen a credential among them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h11
from mitmproxy.proxy import layer


class TrailerlessReader:
    """A reader of HTTP/1's chunked bodies that ends where the last chunk does."""

    def __init__(self, reader: Any) -> None:
        self.read_eof = reader.read_eof
        self.stock_reader = reader

    def __call__(self, buffer: Any) -> Any:
        """Return the next event in the buffer; None if it holds no whole one yet."""
        event = self.stock_reader(buffer)
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event


def without_trailers(make_body_reader: Callable[[int | None], Any]) -> Callable[[int | None], Any]:
    """Return mitmproxy's ``make_body_reader``, made to drop the trailers of chunked bodies (those of no expected size)."""

    def make_trailerless_reader(expected_size: int | None) -> Any:
        reader = make_body_reader(expected_size)
        return TrailerlessReader(reader) if expected_size is None else reader

    return make_trailerless_reader


def drop(stream: Any, event: Any) -> layer.CommandGenerator[None]:
    """Have a stream do nothing with trailers, which HTTP/2 delivers as an event of their own."""
    yield from ()
