"""The destination of a call: where its request is sent, and the header fields that say so."""

from __future__ import annotations

from typing import Any, NamedTuple

from sluicegate.calls.call import Call
from sluicegate.policy.provider import Provider
from sluicegate.providers.account_headers import without_account_choice
from sluicegate.request_grammar import HeaderFields, replace_fields


class Destination(NamedTuple):
    """Where a request is sent."""

    scheme: bytes
    host: str
    port: int
    authority: bytes
    """Its host and port, where the request line or HTTP/2 names them; else empty."""
    path: bytes

    def put_on(self, request: Any) -> None:
        """Set where a request is sent, on its data itself: each of mitmproxy's own setters rewrites the Host header."""
        request.scheme, request.host, request.port, request.authority, request.path = self


def outer_path(provider: Provider, prefix: str, path: str) -> bytes:
    """Return path and query as the provider has them, below the path of its base URL (``prefix``)."""
    return (prefix + provider.outer_path(path)).encode("utf-8", "surrogateescape")


def fields_onward(call: Call, fields: HeaderFields, host: bytes, removed: frozenset[bytes], *, needs_host: bool) -> HeaderFields:
    """Return the header fields of a request to a host, those removed that are not sent on."""
    changed = {b"host": host}
    if call.kind == "messages":
        # A compressed answer would have to be decompressed to be metered; the client gets the same text either way.
        changed[b"accept-encoding"] = b"identity"
    # The provider's key may reach several accounts; which of them pays is not the caller's to say.
    return without_account_choice(replace_fields(fields, changed, needs_host, removed))
