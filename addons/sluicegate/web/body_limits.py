"""How large a body may be, by who sends it and what for: asked when the headers are there, before any of it has come."""

from __future__ import annotations

from starlette.requests import Request

from sluicegate.services import Services
from sluicegate.web import api
from sluicegate.web.auth import caller_of, error
from sluicegate.web.routes import policy
from sluicegate.web.server import Headers

MAX_ANONYMOUS_BODY_BYTES = 64 << 10
"""Bytes of somebody nobody knows: what signs in is far smaller."""


def max_body_bytes(services: Services, method: str, path: str, place: str, headers: Headers, source: str) -> int:
    """Bytes that may follow these headers, credentials included, from the address ``source`` and the page at ``place``, if any."""
    lower = [(name.lower(), value) for name, value in headers]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": lower}
    scope |= {"client": (source, 0), "place": place}
    # The same request is asked about again when it is complete, and is a session's use then.
    caller = caller_of(Request(scope), services, again=True)
    if caller is None:
        return MAX_ANONYMOUS_BODY_BYTES
    bare = path.partition("?")[0]
    if caller.role == "admin" and (bare == policy.BASE or bare.startswith(f"{policy.BASE}/")):
        return policy.MAX_BODY_BYTES
    return api.MAX_BODY_BYTES


def too_large(most: int) -> dict[str, object]:
    """The body of the answer to one that has more."""
    more = " before we know who sends it; the admin token or an operator's says so" if most == MAX_ANONYMOUS_BODY_BYTES else ""
    return error("request_too_large", f"A body may have {most} bytes{more}")
