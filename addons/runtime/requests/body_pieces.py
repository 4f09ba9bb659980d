"""Pieces of a request's body are handed on as they were read, where mitmproxy's reader copies each of them three times."""

from __future__ import annotations

from typing import Any

from h11._readers import ContentLengthReader
from mitmproxy.proxy import events


def take(server: Any, event: events.Event) -> bytes | None:
    """Take a piece of a body of known length out of our side of a client's connection; None to leave it to mitmproxy.

    The first piece, which comes with the head, and the last one are left to it: what follows a body is not the body's.
    """
    reader = server.body_reader
    if type(reader) is not ContentLengthReader or type(event) is not events.DataReceived:
        return None
    data = event.data
    if len(data) != len(server.buf) or len(data) >= reader._remaining or not data:
        return None
    reader._remaining -= len(data)
    server.buf = type(server.buf)()
    return data
