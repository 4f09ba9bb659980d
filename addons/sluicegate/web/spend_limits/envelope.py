"""Errors as Anthropic's Admin API has them: its envelope and its types, with a request's id in body and header."""

from __future__ import annotations

import secrets

from starlette.responses import Response

from sluicegate.web.endpoint import ErrorForm
from sluicegate.web.errors import ApiError
from sluicegate.web.rendering import render_error
from sluicegate.web.spend_limits.shapes import Failure

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
}
"""By status; every other is a mistake in the request."""


def new_request_id() -> str:
    """Return the id of one request, for its answer."""
    return f"req_{secrets.token_hex(16)}"


def render_failure(error: ApiError) -> Response:
    """Return an error as an HTTP response."""
    request_id = new_request_id()
    reason = {"type": _TYPES.get(error.status, "invalid_request_error"), "message": str(error)}
    response = render_error(error, {"type": "error", "error": reason, "request_id": request_id})
    response.headers["request-id"] = request_id
    return response


FAILURES = ErrorForm(Failure, render_failure)
