"""Whether two answers say the same, by a cheap rule that rather says no.

They agree if their texts are equal but for white space, or if they have the same fenced code, the same numbers and quoted code,
the same words of polarity, begin alike where one begins with yes or no, and share most of their words. The rule cannot see that
the same words mean another thing in another order, and takes an answer that is worded quite differently for another one: that
costs hits, not errors.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from sluicegate.providers.answers.sse import events_of

MAX_COMPARED_BYTES = 65_536
"""Answers with a larger body are never found to agree."""

_MIN_SHARED = 0.7
"""The share of words that both answers must have, of all that either has, each as often as it has it."""

_FENCED = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_EXACT = re.compile(r"`[^`\n]+`|\d+(?:[.,:]\d+)*")
_POLAR = re.compile(r"\b(?:not?|never|none|cannot|without|un\w+|in\w+able|false|true|yes|always|only|\w+n't)\b")
_WORD = re.compile(r"\w+")
_VERDICT = re.compile(r"\W*(yes|no|true|false)\b")


def agree(one: str | None, other: str | None) -> bool:
    """Return whether the texts of two answers say the same; an answer without a text agrees with none."""
    if not one or not other:
        return False
    if one.split() == other.split():
        return True
    if _code(one) != _code(other):
        return False
    prose, others = (_FENCED.sub(" ", text).replace("’", "'").casefold() for text in (one, other))
    for pattern in (_EXACT, _POLAR):
        if Counter(pattern.findall(prose)) != Counter(pattern.findall(others)):
            return False
    if _verdict(prose) != _verdict(others):
        return False
    words, other_words = Counter(_WORD.findall(prose)), Counter(_WORD.findall(others))
    return (words & other_words).total() >= _MIN_SHARED * (words | other_words).total()


def _code(text: str) -> list[list[str]]:
    return [[line.rstrip() for line in code.strip("\n").split("\n")] for code in _FENCED.findall(text)]


def _verdict(prose: str) -> str | None:
    found = _VERDICT.match(prose)
    return found[1] if found else None


def text_of(body: bytes) -> str | None:
    """Return the text of an answer, whole or streamed, of any provider; None if it is anything but one text."""
    if len(body) > MAX_COMPARED_BYTES:
        return None
    try:
        pieces = [piece for value in _values(body) for piece in _pieces(value)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return None if None in pieces else "".join(piece for piece in pieces if piece)


def _values(body: bytes) -> list[Any]:
    start = body.lstrip(b"\xef\xbb\xbf \r\n\t")
    if start.startswith(b"["):
        return list(json.loads(start))
    if start.startswith(b"{"):
        return [json.loads(start)]
    events = events_of(start.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    return [json.loads(data) for _, data in events if data.strip() != b"[DONE]"]


def _pieces(value: Any) -> Iterator[str | None]:
    """Yield the texts in an answer or in one event of it, and None for what is not text."""
    kind = value.get("type", "")
    if kind.startswith("response."):
        yield from _of_responses_event(kind, value)
    elif kind == "content_block_start":
        yield from _of_blocks([value["content_block"]])
    elif kind == "content_block_delta":
        delta = value["delta"]
        yield delta["text"] if delta["type"] == "text_delta" else _hidden(delta["type"])
    elif "candidates" in value:
        yield from _of_candidates(value["candidates"])
    elif "choices" in value:
        yield from _of_choices(value["choices"])
    elif isinstance(value.get("output"), list):
        for item in value["output"]:
            yield from _of_blocks(item["content"] if item["type"] == "message" else [item])
    elif isinstance(value.get("content"), list):
        yield from _of_blocks(value["content"])


def _of_responses_event(kind: str, value: Any) -> Iterator[str | None]:
    if kind == "response.output_text.delta":
        yield value["delta"]
    elif kind == "response.output_item.added":
        yield "" if value["item"]["type"] == "message" else _hidden(value["item"]["type"])
    elif kind.startswith("response.refusal"):
        yield None


def _of_blocks(blocks: Any) -> Iterator[str | None]:
    for block in blocks:
        yield block["text"] if block["type"] in ("text", "output_text") else _hidden(block["type"])


def _of_candidates(candidates: Any) -> Iterator[str | None]:
    if len(candidates) != 1:
        yield None
        return
    for part in candidates[0].get("content", {}).get("parts", []):
        yield part["text"] if "text" in part and not part.get("thought") else ("" if part.get("thought") else None)


def _of_choices(choices: Any) -> Iterator[str | None]:
    for choice in choices:
        message = choice.get("message") or choice.get("delta") or {}
        if choice.get("index", 0) != 0 or message.get("tool_calls") or message.get("function_call") or message.get("refusal"):
            yield None
        yield message.get("content") or ""


def _hidden(kind: str) -> str | None:
    """Return no text for what a model thinks, and None for whatever else is not text."""
    return "" if kind in ("thinking", "redacted_thinking", "thinking_delta", "signature_delta", "reasoning") else None
