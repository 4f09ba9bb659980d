"""Both forms of an answer of Gemini's generateContent: a whole one is a stream of one chunk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sluicegate.caching.forms.lossless import put, require

_COUNTED_ANEW = ("usageMetadata", "createTime")
"""Members that each chunk says anew, of which the last counts."""


def as_whole(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the answer of a stream. Raises LossyError."""
    whole: dict[str, Any] = {}
    candidates: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for name, value in chunk.items():
            if name in _COUNTED_ANEW:
                whole[name] = value
            elif name != "candidates":
                put(whole, name, value)
        given = chunk.get("candidates") or []
        require(isinstance(given, list) and all(isinstance(candidate, dict) for candidate in given), "candidates is not a list")
        for candidate in given:
            index = candidate.get("index", 0)
            require(isinstance(index, int), "a candidate without a number")
            _add(candidates.setdefault(index, {}), candidate)
    require(candidates, "no candidates")
    return {"candidates": [candidate for _, candidate in sorted(candidates.items())], **whole}


def _add(candidate: dict[str, Any], given: dict[str, Any]) -> None:
    for name, value in given.items():
        if name == "content" and isinstance(value, dict):
            content = candidate.setdefault("content", {"parts": []})
            for inner, part in value.items():
                if inner != "parts":
                    put(content, inner, part)
            parts = value.get("parts") or []
            require(isinstance(parts, list) and all(isinstance(part, dict) for part in parts), "parts are not a list")
            for part in parts:
                _add_part(content["parts"], part)
        elif name == "safetyRatings":
            candidate[name] = value
        else:
            put(candidate, name, value)


def _add_part(parts: list[dict[str, Any]], part: dict[str, Any]) -> None:
    """Add a part; a text that goes on is one part of a whole answer, and an empty one says nothing."""
    text, last = part.get("text"), parts[-1] if parts else {}
    if not isinstance(text, str) or not set(part) <= {"text", "thought"}:
        parts.append(part)
    elif (
        set(last) <= {"text", "thought"}
        and isinstance(last.get("text"), str)
        and bool(last.get("thought")) == bool(part.get("thought"))
    ):
        parts[-1] = last | {"text": last["text"] + text}
    elif text:
        parts.append(part)
