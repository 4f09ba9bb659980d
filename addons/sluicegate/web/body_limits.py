"""How large a request's body may be, by sender and path: decided from the headers, before any of the body is read."""

from __future__ import annotations

from starlette.requests import Request

from sluicegate.services import Services
from sluicegate.web import endpoint
from sluicegate.web.auth import caller_of
from sluicegate.web.errors import error_body
from sluicegate.web.routes import policy, reconciliations
from sluicegate.web.server import Headers

MAX_ANONYMOUS_BODY_BYTES = 64 << 10
"""For senders without a valid credential: a request to sign in is far smaller."""


def max_body_bytes(services: Services, method: str, path: str, session_path: str, headers: Headers, source: str) -> int:
    """Return the bytes that may follow these headers, credentials included, from the address ``source``.

    ``session_path`` is empty for a request that does not come from a signed-in page.
    """
    lower = [(name.lower(), value) for name, value in headers]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": lower}
    scope |= {"client": (source, 0), "session_path": session_path}
    # The complete request is checked again, and counts as the use of the session then.
    caller = caller_of(Request(scope), services, is_recheck=True)
    if caller is None:
        return MAX_ANONYMOUS_BODY_BYTES
    bare = path.partition("?")[0]
    if caller.role == "admin" and (bare == policy.BASE or bare.startswith(f"{policy.BASE}/")):
        return policy.MAX_BODY_BYTES
    if caller.role == "admin" and bare == reconciliations.BASE:
        return reconciliations.MAX_BODY_BYTES
    return endpoint.MAX_BODY_BYTES


def too_large_error(limit_bytes: int) -> dict[str, object]:
    """Return the body of the answer to a request with more than ``limit_bytes``."""
    hint = "; send the admin token or an operator's to send more" if limit_bytes == MAX_ANONYMOUS_BODY_BYTES else ""
    return error_body("request_too_large", f"The body is too large: at most {limit_bytes} bytes are accepted{hint}", 413)
