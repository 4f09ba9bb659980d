"""Both forms of an answer of OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sluicegate.caching.forms.lossless import LossyError, require
from sluicegate.translation.answers.framing import named_event

_Events = Iterator[tuple[str, dict[str, Any]]]

_ARGUMENTS = {"function_call": ("arguments", "function_call_arguments"), "custom_tool_call": ("input", "custom_tool_call_input")}
"""Of each kind of call: the member with what it is called with, and the name of the events that say it."""


def as_stream(response: dict[str, Any]) -> Iterator[bytes]:
    """Yield the events of a response. Raises LossyError."""
    items = response.get("output")
    require(response.get("status") == "completed" and isinstance(items, list), "not a completed response")
    assert isinstance(items, list)
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    if "completed_at" in begun:
        begun["completed_at"] = None
    events = [("response.created", {"response": begun}), ("response.in_progress", {"response": begun})]
    for index, item in enumerate(items):
        require(isinstance(item, dict) and isinstance(item.get("id"), str), "an item without an id")
        events += _item(item, index)
    events.append(("response.completed", {"response": response}))
    for number, (kind, fields) in enumerate(events):
        yield named_event(kind, {"type": kind, "sequence_number": number, **fields})


def _item(item: dict[str, Any], index: int) -> _Events:
    kind = item.get("type")
    begun = {name: value for name, value in item.items() if name != "encrypted_content"}
    if "status" in begun:
        begun["status"] = "in_progress"
    inner: _Events
    if kind == "message":
        begun["content"], inner = [], _contents(item, ("output_text", "refusal"))
    elif kind == "reasoning":
        begun["summary"], inner = [], _reasoning(item)
        if "content" in begun:
            begun["content"] = []
    elif kind in _ARGUMENTS:
        begun[_ARGUMENTS[kind][0]], inner = "", _arguments(item, *_ARGUMENTS[kind])
    else:
        raise LossyError(f"an item of unknown kind: {kind}")
    yield "response.output_item.added", {"output_index": index, "item": begun}
    for name, fields in inner:
        yield name, {"item_id": item["id"], "output_index": index, **fields}
    yield "response.output_item.done", {"output_index": index, "item": item}


def _arguments(item: dict[str, Any], member: str, name: str) -> _Events:
    text = _text_in(item, member)
    if text:
        yield f"response.{name}.delta", {"delta": text}
    named = {"name": item["name"]} if member == "arguments" and "name" in item else {}
    yield f"response.{name}.done", {member: text, **named}


def _reasoning(item: dict[str, Any]) -> _Events:
    for number, part in enumerate(_parts(item, "summary", ("summary_text",))):
        at, name = {"summary_index": number}, "response.reasoning_summary_text"
        yield "response.reasoning_summary_part.added", {**at, "part": {**part, "text": ""}}
        if text := _text_in(part, "text"):
            yield f"{name}.delta", {**at, "delta": text}
        yield f"{name}.done", {**at, "text": text}
        yield "response.reasoning_summary_part.done", {**at, "part": part}
    yield from _contents(item, ("reasoning_text",))


def _contents(item: dict[str, Any], kinds: tuple[str, ...]) -> _Events:
    for number, part in enumerate(_parts(item, "content", kinds)):
        kind, at = part["type"], {"content_index": number}
        member = "refusal" if kind == "refusal" else "text"
        more = {"logprobs": part.get("logprobs") or []} if kind == "output_text" else {}
        emptied = {**part, member: ""} | ({"logprobs": []} if part.get("logprobs") else {})
        yield "response.content_part.added", {**at, "part": emptied}
        if text := _text_in(part, member):
            yield f"response.{kind}.delta", {**at, "delta": text, **more}
        yield f"response.{kind}.done", {**at, member: text, **more}
        yield "response.content_part.done", {**at, "part": part}


def _parts(item: dict[str, Any], name: str, kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    parts = item.get(name) or []
    require(isinstance(parts, list) and all(isinstance(part, dict) for part in parts), f"{name} is not a list")
    require(all(part.get("type") in kinds and not part.get("annotations") for part in parts), "a part of unknown kind")
    return list(parts)


def _text_in(fields: dict[str, Any], name: str) -> str:
    text = fields.get(name)
    require(isinstance(text, str), f"{name} is not text")
    return str(text)


def as_whole(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the response that a stream ends with. Raises LossyError where there is none."""
    for value in events:
        if value.get("type") == "response.completed" and isinstance(value.get("response"), dict):
            return dict(value["response"])
    raise LossyError("no completed response")
