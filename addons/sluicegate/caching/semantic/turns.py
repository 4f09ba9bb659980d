"""Which calls may be answered by an answer to another question: those whose answer cannot act, of one short turn in plain text.

A call with any member that is not listed here is not such a call: what nobody knows may offer a tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

MAX_TURN_BYTES = 16_384
"""Most bytes of the messages of a call, with what a system message among them says."""

MAX_TEXT_BYTES = 4096
"""Most bytes of the question itself."""

_COMMON = frozenset({"model", "temperature", "top_p", "stream", "metadata", "service_tier"})

_MEMBERS: Mapping[str, frozenset[str]] = {
    "messages": _COMMON
    | {"messages", "system", "max_tokens", "top_k", "stop_sequences", "stop", "max_completion_tokens", "stream_options", "seed"}
    | {"presence_penalty", "frequency_penalty", "response_format", "reasoning_effort", "verbosity", "user", "safety_identifier"}
    | {"prompt_cache_key", "thinking", "output_config", "store", "n"},
    "input": _COMMON
    | {"input", "instructions", "max_output_tokens", "reasoning", "text", "user", "safety_identifier", "prompt_cache_key", "store"},
    "contents": frozenset(
        {"contents", "model", "systemInstruction", "system_instruction", "generationConfig", "generation_config", "safetySettings"}
    ),
}
"""The members a call may have, by the one that has its turns."""

_EMPTY = (b"[]", b"null")
_TEXT_BLOCK = frozenset({"type", "text", "cache_control"})


class Turn(NamedTuple):
    """The only turn of a call: its text, and all that a question's answer depends on besides."""

    text: str
    turns_member: str
    """The member that the text was taken out of."""
    frame: bytes
    """What was left of that member: its system messages and the kinds of its parts."""


def turn_of(members: Mapping[str, Any]) -> Turn | None:
    """Return the turn of a call by its body's top-level members, each as it was sent; None if its answer may act, or is long."""
    named = [name for name in _MEMBERS if name in members]
    if len(named) != 1:
        return None
    turns = named[0]
    for name in members.keys() - _MEMBERS[turns]:
        if name not in ("tools", "functions") or bytes(members[name]).strip() not in _EMPTY:
            return None
    written = bytes(members[turns])
    if len(written) > MAX_TURN_BYTES:
        return None
    try:
        value = msgspec.json.decode(written)
    except (msgspec.DecodeError, RecursionError):
        return None
    found = _only_text(value, turns)
    if found is None or not found[0].strip() or len(found[0].encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        return None
    text, frame = found
    return Turn(text, turns, msgspec.json.encode(frame))


def _only_text(value: Any, turns: str) -> tuple[str, Any] | None:
    """Return the text of the only user turn, which is the last, and the value with nothing in its place."""
    if isinstance(value, str):
        return (value, None) if turns == "input" else None
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        return None
    *before, last = value
    if last.get("role", "user" if turns == "contents" else None) != "user" or not all(_is_instruction(turn) for turn in before):
        return None
    part = "parts" if turns == "contents" else "content"
    if last.keys() - {"role", part, "type"} or last.get("type", "message") != "message":
        return None
    found = _text_of(last.get(part))
    return None if found is None else (found[0], [*before, {**last, part: found[1]}])


def _is_instruction(turn: Mapping[str, Any]) -> bool:
    """Return whether a message before the question is the system's and plain text."""
    is_plain = not turn.keys() - {"role", "content", "type"} and turn.get("type", "message") == "message"
    return is_plain and turn.get("role") in ("system", "developer") and _text_of(turn.get("content")) is not None


def _text_of(content: Any) -> tuple[str, Any] | None:
    """Return the text of a content that has nothing else, and the content without it."""
    if isinstance(content, str):
        return content, None
    if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], dict):
        return None
    block = content[0]
    if (
        block.keys() - _TEXT_BLOCK
        or block.get("type", "text") not in ("text", "input_text")
        or not isinstance(block.get("text"), str)
    ):
        return None
    return block["text"], [{**block, "text": None}]
