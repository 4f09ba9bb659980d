"""Addressing: how a request named its target and who sent it, noted before any hook runs.

mitmproxy erases the difference between ``GET /x`` and ``GET http://host/x`` before that, and a request for us would look like one
for whatever its Host header claims.
"""

from __future__ import annotations

from mitmproxy.connection import Client
from mitmproxy.http import Request

from runtime.connections import strangers
from runtime.network import probes
from runtime.network.port import note_source


def note_addressing(request: Request, client: Client, asks_to_close: bool) -> None:
    """Note whether a request named its target itself, whether it asks to close its connection, and who sent it."""
    strangers.pop(client.id, None)
    data = request.data
    # HTTP/2 is recognised by what TLS negotiated: the version in a request line is only a claim by the client.
    request.origin_form = not (data.authority or data.host) and client.alpn != b"h2"  # type: ignore[attr-defined]
    request.asks_to_close = asks_to_close  # type: ignore[attr-defined]
    request.named_authority = data.authority.decode("latin-1")  # type: ignore[attr-defined]
    probes.name_host(request, client)
    note_source(request, client)
