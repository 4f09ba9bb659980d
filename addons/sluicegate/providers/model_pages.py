"""Lists of the models of several providers, ``PROVIDER/MODEL``, as each API writes them: whole, a page of them, or one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from sluicegate.providers.base import ProtocolName

MAX_PAGE = 1_000
"""Most models of a page, at Anthropic and Google."""

_ANTHROPICS_PAGE, _GOOGLES_PAGE = 20, 50
"""How many models a page has that nobody asks to be longer or shorter."""

_EPOCH = "1970-01-01T00:00:00Z"
"""Anthropic's date of a model whose release nobody knows."""

Fields = dict[str, Any]


class PageError(ValueError):
    """A page that there is not, in words."""


def listed(protocol: ProtocolName, names: Sequence[str], query: Mapping[str, str]) -> bytes:
    """Return the list of these models, or the page of it that the query asks for, in an API's form. Raises PageError."""
    if protocol == "openai":
        return orjson.dumps({"object": "list", "data": [_entry(protocol, name) for name in names]})
    if protocol == "anthropic":
        return orjson.dumps(_anthropics_page(names, query))
    begin = _after(names, query["pageToken"], "pageToken") if query.get("pageToken") else 0
    page = names[begin : begin + _size(query, "pageSize", _GOOGLES_PAGE)]
    is_last = begin + len(page) >= len(names)
    more: Fields = {} if is_last else {"nextPageToken": page[-1]}
    return orjson.dumps({"models": [_entry(protocol, name) for name in page]} | more)


def described(protocol: ProtocolName, name: str) -> bytes:
    """Return one model in an API's form."""
    return orjson.dumps(_entry(protocol, name))


def _anthropics_page(names: Sequence[str], query: Mapping[str, str]) -> Fields:
    size, first, last = _size(query, "limit", _ANTHROPICS_PAGE), 0, len(names)
    if query.get("after_id") and query.get("before_id"):
        raise PageError("after_id, before_id: give one of them")
    if query.get("before_id"):
        last = _after(names, query["before_id"], "before_id") - 1
        first = max(0, last - size)
        has_more = first > 0
    else:
        first = _after(names, query["after_id"], "after_id") if query.get("after_id") else 0
        last = min(last, first + size)
        has_more = last < len(names)
    page = names[first:last]
    ends: Fields = {"first_id": page[0], "last_id": page[-1]} if page else {"first_id": None, "last_id": None}
    return {"data": [_entry("anthropic", name) for name in page], "has_more": has_more, **ends}


def _size(query: Mapping[str, str], field: str, usual: int) -> int:
    text = query.get(field) or str(usual)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_PAGE:
        raise PageError(f"{field}: '{text[:40]}' is not a number from 1 to {MAX_PAGE}")
    return int(text)


def _after(names: Sequence[str], name: str, field: str) -> int:
    if name not in names:
        raise PageError(f"{field}: there is no model '{name[:80]}' in this list")
    return names.index(name) + 1


def _entry(protocol: ProtocolName, name: str) -> Fields:
    provider = name.partition("/")[0]
    if protocol == "openai":
        return {"id": name, "object": "model", "created": 0, "owned_by": provider}
    if protocol == "anthropic":
        return {"type": "model", "id": name, "display_name": name, "created_at": _EPOCH}
    return {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": ["generateContent", "countTokens"]}
