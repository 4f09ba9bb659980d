"""Responses of the API as bytes: JSON, ETags, errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import anyio.to_thread
import orjson
from starlette.responses import Response

from sluicegate.background import low_priority
from sluicegate.web.endpoint import JSON, ApiResponse
from sluicegate.web.errors import ApiError

LONG_LIST_ITEMS = 500
"""Responses with longer lists are encoded in a worker thread, so that they delay no call."""


async def render(response: ApiResponse) -> Response:
    """Return a handler's answer as an HTTP response."""
    is_long = any(isinstance(value, list) and len(value) > LONG_LIST_ITEMS for value in response.body.values())
    content = await anyio.to_thread.run_sync(_to_json_item_by_item, response.body) if is_long else to_json(response.body)
    headers = {**_etag(response.revision), **response.headers}
    return Response(content, response.status, headers, media_type=JSON)


def render_error(error: ApiError, body: Mapping[str, Any] | None = None) -> Response:
    """Return an error as an HTTP response, with ``body`` in the place of its own."""
    headers = {**_etag(error.details.get("revision")), **error.headers}
    if "retry_after" in error.details:
        headers["retry-after"] = str(error.details["retry_after"])
    return Response(to_json(error.body if body is None else body), error.status, headers, media_type=JSON)


def to_json(value: Any) -> bytes:
    """Return a value as JSON; decimals as numbers."""
    try:
        return orjson.dumps(value, default=_number)
    except TypeError:
        # An error may quote half a surrogate pair that a client sent; orjson encodes no such text.
        return json.dumps(value, default=_number).encode()


def _to_json_item_by_item(body: Mapping[str, Any]) -> bytes:
    """Return a value as JSON, encoding lists item by item: orjson holds the interpreter's lock until it is done."""
    with low_priority():
        parts = [
            to_json(name) + b":" + (b"[" + b",".join(map(to_json, value)) + b"]" if isinstance(value, list) else to_json(value))
            for name, value in body.items()
        ]
    return b"{" + b",".join(parts) + b"}"


def _number(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} cannot be encoded as JSON")


def _etag(revision: str | None) -> dict[str, str]:
    return {"etag": f'"{revision}"'} if revision is not None else {}
