"""Lists of models: what a provider says on ``/v1/models`` and of one model there, without those that a virtual key may not use.

OpenAI and Anthropic list objects with an ``id`` under ``data``, Google objects with a ``name`` like ``models/X`` under ``models``,
and Together AI objects with an ``id`` and nothing around them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from sluicegate.providers.base import ProtocolName

_PATH = re.compile(r"/v1(?:beta|alpha)?/models(?:/([^/]+))?/?")
_MEMBERS = (("data", "id", ""), ("models", "name", "models/"))
"""Where a list stands, what names an entry, and what stands before the name."""

NOT_FOUND = 404
"""What every provider answers for a model that it does not know."""


MAX_LIST_BYTES = 4 << 20
"""Longest list that is read, decoded: the longest known, of some hundred models with descriptions, has a fifth of that."""

MAX_ENTRIES = 4_000
"""Most models of a list that is filtered, each of which takes some 30 µs, during which nothing else is done."""

MAX_NAME_CHARS = 512
"""Longest name of a model that is shown to a key which may not use all."""


class UnreadableListError(ValueError):
    """What should be a list of models cannot be read as one."""


def is_model_list(method: str, path: str) -> bool:
    """Return whether a request asks for a list of models; the path without its query."""
    return method == "GET" and (found := _PATH.fullmatch(path)) is not None and found[1] is None


def model_asked_about(method: str, path: str) -> str | None:
    """Return the model that a request asks for the description of; the path without its query. None for any other request."""
    found = _PATH.fullmatch(path) if method == "GET" else None
    return found[1] if found is not None else None


def without_refused(body: bytes, is_allowed: Callable[[str], bool]) -> bytes | None:
    """Return a list of models without those that are not allowed; None if it may stay as it is. Raises UnreadableListError.

    What else it says stays, cursors of further pages included: the next page begins after the last entry of this one.
    """
    if len(body) > MAX_LIST_BYTES:
        raise UnreadableListError(f"it is longer than {MAX_LIST_BYTES >> 20} MiB")
    try:
        read: Any = orjson.loads(body)
    except orjson.JSONDecodeError as e:
        raise UnreadableListError("it is no JSON") from e
    fields = {"data": read} if isinstance(read, list) else read
    members = [m for m in _MEMBERS if isinstance(fields, dict) and m[0] in fields]
    if not members:
        raise UnreadableListError("it has no list of models")
    kept = {}
    for member, naming, before in members:
        if not isinstance(fields[member], list):
            raise UnreadableListError(f"its '{member}' is not a list")
        if len(fields[member]) > MAX_ENTRIES:
            raise UnreadableListError(f"it has more than {MAX_ENTRIES} models")
        kept[member] = [e for e in fields[member] if not _is_refused(e, naming, before, is_allowed)]
    if all(len(kept[member]) == len(fields[member]) for member in kept):
        return None
    try:
        return orjson.dumps(kept["data"] if isinstance(read, list) else fields | kept)
    except TypeError as e:
        # orjson reads deeper nesting than it writes.
        raise UnreadableListError("it is nested too deeply") from e


def names_in(body: bytes) -> list[str]:
    """Return the names of the models in a provider's list. Raises UnreadableListError."""
    names: list[str] = []

    def take(name: str) -> bool:
        names.append(name)
        return True

    without_refused(body, take)
    return names


def _is_refused(entry: Any, naming: str, before: str, is_allowed: Callable[[str], bool]) -> bool:
    name = entry.get(naming) if isinstance(entry, dict) else None
    return not isinstance(name, str) or len(name) > MAX_NAME_CHARS or not is_allowed(name.removeprefix(before))


def unknown_model_body(protocol: ProtocolName, message: str) -> bytes:
    """Return the body with which an API of this protocol says that it does not know a model."""
    if protocol == "openai":
        error = {"message": message, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
        return orjson.dumps({"error": error})
    if protocol == "anthropic":
        return orjson.dumps({"type": "error", "error": {"type": "not_found_error", "message": message}})
    return orjson.dumps({"error": {"code": NOT_FOUND, "message": message, "status": "NOT_FOUND"}})
