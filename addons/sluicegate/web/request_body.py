"""Bodies and preconditions of requests to the API."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

import anyio.to_thread
import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from sluicegate.policy.editing.draft import EditError
from sluicegate.services import Services
from sluicegate.web.endpoint import Endpoint, Shown
from sluicegate.web.errors import ApiError, validation_error
from sluicegate.web.unchanged import without_unchanged

MAX_FORM_FIELDS = 50

SMALL_BODY_BYTES = 20_000
"""Bytes of a body that is parsed faster than a worker thread starts."""


async def read_body(request: Request, endpoint: Endpoint, services: Services) -> dict[str, Any]:
    """Return the JSON object that was sent, empty where the endpoint takes none. Raises ApiError."""
    if endpoint.takes_any_body:
        return {}
    raw, model = await request.body(), endpoint.body
    if model is None:
        # An empty object says as little as no body, and some clients send it with every request.
        if raw.strip() not in (b"", b"{}") and request.method not in ("GET", "HEAD"):
            raise ApiError(400, "invalid_request", "This endpoint takes no body; send none")
        return {}
    if len(raw) > endpoint.max_body_bytes:
        message = f"The body has {len(raw)} bytes; at most {endpoint.max_body_bytes} are accepted"
        raise ApiError(413, "request_too_large", message)
    if endpoint.takes_form:
        return _parse_form(raw, model)
    if (shown := endpoint.shown) is not None and len(raw) > len("{}"):
        names = request.path_params
        return await anyio.to_thread.run_sync(lambda: _parse(raw, model, _shown(shown, services, names)))
    return _parse(raw, model) if len(raw) < SMALL_BODY_BYTES else await anyio.to_thread.run_sync(_parse, raw, model)


def _shown(shown: Shown, services: Services, names: Mapping[str, str]) -> Mapping[str, Any]:
    """Return what GET answers at a path, nothing where there is no such entity: the handler says so, or creates it."""
    try:
        return shown(services, names)
    except EditError:
        return {}


def _parse_form(raw: bytes, model: type[BaseModel]) -> dict[str, Any]:
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, strict_parsing=bool(raw))
    except ValueError as e:
        raise ApiError(400, "invalid_request", "Invalid form: it is not a list of names and values") from e
    sent = [(name, value) for name, value in pairs if name in model.model_fields]
    body = _without_duplicates(sent)
    try:
        model.model_validate(body)
    except ValidationError as e:
        raise validation_error(e, model) from e
    return body


def _parse(raw: bytes, model: type[BaseModel], shown: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    try:
        # Twice: orjson is the stricter parser, but only json keeps numbers as they were written.
        orjson.loads(raw or b"{}")
        body = json.loads(raw or b"{}", parse_float=_exact_number, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as e:
        raise ApiError(400, "invalid_request", "Invalid JSON: " + (str(e) or "nested too deeply")[:200]) from e
    if not isinstance(body, dict):
        raise ApiError(400, "invalid_request", "Invalid JSON: the body must be an object")
    change: dict[str, Any] = without_unchanged(body, shown) if shown else body
    try:
        model.model_validate(change)
    except ValidationError as e:
        raise validation_error(e, model) from e
    return change


def _exact_number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError as e:
        raise ValueError(f"the exponent of {text[:40]} is out of range") from e


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ApiError(400, "invalid_request", f"{duplicate[:80]}: is given twice; send it once", duplicate[:80])
    return found


def if_match_of(request: Request) -> Callable[[str], bool]:
    """Return a test whether the request was made for a given policy revision; without If-Match every revision passes."""
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return lambda _: True
    tags = {tag.strip() for tag in header.split(",")}
    return lambda revision: f'"{revision}"' in tags


def create_only_of(request: Request) -> bool:
    """Return whether the request may only create, as ``If-None-Match: *`` says. Raises ApiError for anything else in it."""
    header = request.headers.get("if-none-match")
    if header is None or request.method not in ("POST", "PUT"):
        return False
    if header.strip() != "*":
        raise ApiError(400, "invalid_request", "If-None-Match: write * to create only what does not exist yet", "If-None-Match")
    return True
