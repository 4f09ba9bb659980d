"""Both forms of an answer of Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sluicegate.caching.forms.lossless import LossyError, parse, put, require
from sluicegate.translation.answers.framing import encode, named_event

_PIECES = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
"""The member of a block that each kind of delta adds to, by the delta's type; it has the same name in the delta."""

_EMPTIED = {"text": ("text",), "thinking": ("thinking", "signature"), "redacted_thinking": (), "tool_use": ("input",)}
"""What a block's start leaves out, by its type."""

_LATE = ("stop_reason", "stop_sequence")
_LATE_IF_PRESENT = ("stop_details", "container")


def as_stream(message: dict[str, Any]) -> Iterator[bytes]:
    """Yield the events of a message. Raises LossyError."""
    blocks = message.get("content")
    require(message.get("type") == "message" and isinstance(blocks, list) and message.get("stop_reason"), "not a message")
    assert isinstance(blocks, list)
    yield _event("message_start", message={**message, "content": [], **dict.fromkeys(_LATE)})
    for index, block in enumerate(blocks):
        require(isinstance(block, dict) and block.get("type") in _EMPTIED, "a block of unknown kind")
        start = dict(block)
        for name in _EMPTIED[block["type"]]:
            start[name] = {} if name == "input" else ""
        if block.get("citations"):
            start["citations"] = []
        yield _event("content_block_start", index=index, content_block=start)
        for delta in _deltas(block):
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    late = {name: message.get(name) for name in _LATE} | {name: message[name] for name in _LATE_IF_PRESENT if message.get(name)}
    yield _event("message_delta", delta=late, usage=message.get("usage"))
    yield _event("message_stop")


def _deltas(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for citation in block.get("citations") or ():
        yield {"type": "citations_delta", "citation": citation}
    for kind, name in _PIECES.items():
        if name in _EMPTIED[block["type"]] and block.get(name):
            require(isinstance(block[name], str), f"{name} is not text")
            yield {"type": kind, name: block[name]}
    if block["type"] == "tool_use" and block.get("input"):
        yield {"type": "input_json_delta", "partial_json": encode(block["input"]).decode()}


def as_whole(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the message of a stream. Raises LossyError."""
    message: dict[str, Any] = {}
    blocks: list[dict[str, Any]] = []
    inputs: dict[int, str] = {}
    for value in events:
        kind = value.get("type")
        if kind == "message_start":
            require(not message and isinstance(value.get("message"), dict), "a message begins twice")
            message = dict(value["message"])
        elif kind == "content_block_start":
            require(value.get("index") == len(blocks) and isinstance(value.get("content_block"), dict), "blocks out of order")
            blocks.append(dict(value["content_block"]))
            require(blocks[-1].get("type") in _EMPTIED, "a block of unknown kind")
        elif kind == "content_block_delta":
            index = value.get("index")
            if not isinstance(index, int) or not 0 <= index < len(blocks):
                raise LossyError("a delta of no block")
            _add(blocks[index], value.get("delta"), inputs, index)
        elif kind == "message_delta":
            _end(message, value)
        elif kind not in ("content_block_stop", "message_stop", "ping"):
            raise LossyError(f"an event of unknown kind: {kind}")
    for index, text in inputs.items():
        require(not blocks[index].get("input"), "an input is said twice")
        blocks[index]["input"] = parse(text or "{}")
    require(message.get("content") == [] and message.get("stop_reason"), "a message without a start or an end")
    return message | {"content": blocks}


def _add(block: dict[str, Any], delta: Any, inputs: dict[int, str], index: int) -> None:
    require(isinstance(delta, dict) and len(delta) == 2, "a delta of unknown form")
    kind = delta.get("type")
    if kind in _PIECES:
        name = _PIECES[kind]
        before, more = block.get(name) or "", delta.get(name)
        require(name in _EMPTIED[block["type"]] and isinstance(before, str) and isinstance(more, str), "a delta of another block")
        block[name] = before + more
    elif kind == "input_json_delta":
        require(block["type"] == "tool_use" and isinstance(delta.get("partial_json"), str), "a delta of another block")
        inputs[index] = inputs.get(index, "") + delta["partial_json"]
    elif kind == "citations_delta":
        block["citations"] = [*(block.get("citations") or ()), delta.get("citation")]
    else:
        raise LossyError(f"a delta of unknown kind: {kind}")


def _end(message: dict[str, Any], value: dict[str, Any]) -> None:
    """Add what the end of a stream says: counts there are the last word, where they are said."""
    for name, reported in value.items():
        if name == "delta":
            require(isinstance(reported, dict), "an end of unknown form")
            for inner, late in reported.items():
                put(message, inner, late)
        elif name == "usage":
            require(isinstance(reported, dict), "a usage of unknown form")
            known = {inner: count for inner, count in reported.items() if count is not None}
            message["usage"] = {**reported, **(message.get("usage") or {}), **known}
        elif name != "type":
            put(message, name, reported)


def _event(kind: str, **fields: Any) -> bytes:
    return named_event(kind, {"type": kind, **fields})
