"""Lists of models: what a provider answers on ``/v1/models``, without those that a virtual key may not use.

OpenAI and Anthropic list objects with an ``id`` under ``data``, Google objects with a ``name`` like ``models/X`` under ``models``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

_PATH = re.compile(r"/v1(?:beta|alpha)?/models/?")
_MEMBERS = (("data", "id", ""), ("models", "name", "models/"))
"""Where a list stands, what names an entry, and what stands before the name."""


def is_model_list(method: str, path: str) -> bool:
    """Return whether a request asks for a list of models; the path without its query."""
    return method == "GET" and _PATH.fullmatch(path) is not None


def without_refused(body: bytes, is_allowed: Callable[[str], bool]) -> bytes | None:
    """Return a list of models without those that are not allowed; None if it may stay as it is, or is no list.

    What else it says stays, cursors of further pages included: the next page begins after the last entry of this one.
    """
    try:
        fields: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    for member, naming, before in _MEMBERS:
        entries = fields.get(member) if isinstance(fields, dict) else None
        if isinstance(entries, list):
            kept = [e for e in entries if not _is_refused(e, naming, before, is_allowed)]
            return None if len(kept) == len(entries) else orjson.dumps(fields | {member: kept})
    return None


def _is_refused(entry: Any, naming: str, before: str, is_allowed: Callable[[str], bool]) -> bool:
    name = entry.get(naming) if isinstance(entry, dict) else None
    return not isinstance(name, str) or not is_allowed(name.removeprefix(before))
