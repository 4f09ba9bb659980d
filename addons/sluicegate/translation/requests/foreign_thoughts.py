"""Take out of a request in the target's own dialect what other APIs thought in earlier turns.

A session may move from a provider whose answers were translated to the client's own. Its conversation then holds thinking that was
packed for the client to keep, and that the provider would refuse as a signature which is not its own. Every other body stays byte
for byte the client's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sluicegate.translation.conversation import Dialect, Untranslatable
from sluicegate.translation.opaque import PREFIX, unpack
from sluicegate.translation.requests.gemini_writer import UNSIGNED
from sluicegate.translation.requests.typed import encoded, parse

_PREFIX_BYTES = PREFIX.encode()

_RARE = _PREFIX_BYTES.index(b"Z")
"""Where the letter of the prefix stands that is rarest in text and programs."""

_MAX_RARE = 64
"""Rare letters looked at one by one; a body with more of them, as in Base64, is searched for the whole prefix."""


def holds_packed_thoughts(body: bytes) -> bool:
    """Return whether a body may hold what another API thought, packed for the client to keep."""
    # Every call passes here. One letter is sought ten times as fast as twelve.
    at = _RARE
    for _ in range(_MAX_RARE):
        at = body.find(b"Z", at)
        if at < 0:
            return False
        if body.startswith(_PREFIX_BYTES, at - _RARE):
            return True
        at += 1
    return body.find(_PREFIX_BYTES, at - _RARE) >= 0


def without_foreign_thoughts(body: bytes, dialect: Dialect) -> bytes:
    """Return a body without what other APIs thought: the same bytes where there is nothing of that, or nothing can be read."""
    if not holds_packed_thoughts(body):
        return body
    try:
        fields = parse(body)
        removed = _REMOVERS[dialect](fields)
        return encoded(fields) if removed else body
    except (Untranslatable, RecursionError):
        return body


def _is_packed(value: Any) -> bool:
    return isinstance(value, str) and unpack(value) is not None


def _holds_packed(part: dict[str, Any]) -> bool:
    return _is_packed(part.get("signature")) or _is_packed(part.get("data"))


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _keep(holder: dict[str, Any], name: str, is_foreign: Callable[[dict[str, Any]], bool]) -> bool:
    """Remove the foreign objects from a list in ``holder``; return whether there were any."""
    values = holder.get(name)
    if not isinstance(values, list):
        return False
    kept = [value for value in values if not (isinstance(value, dict) and is_foreign(value))]
    holder[name] = kept
    return len(kept) < len(values)


def _from_messages(body: dict[str, Any]) -> bool:
    removed = False
    for message in _objects(body.get("messages")):
        removed |= _keep(message, "content", _holds_packed)
    if removed:
        # A message of nothing but thinking is empty now, which Anthropic refuses.
        _keep(body, "messages", lambda message: message.get("content") == [])
    return removed


def _from_chat(body: dict[str, Any]) -> bool:
    removed = False
    for message in _objects(body.get("messages")):
        if _keep(
            message, "reasoning_details", lambda detail: _is_packed(detail.get("data")) or _is_packed(detail.get("signature"))
        ):
            removed = True
            if not message["reasoning_details"]:
                del message["reasoning_details"]
    return removed


def _from_responses(body: dict[str, Any]) -> bool:
    return _keep(body, "input", lambda item: _is_packed(item.get("encrypted_content")))


def _from_generate_content(body: dict[str, Any]) -> bool:
    removed = False
    for content in _objects(body.get("contents")):
        for part in _objects(content.get("parts")):
            for name in ("thoughtSignature", "thought_signature"):
                if _is_packed(part.get(name)):
                    removed = True
                    del part[name]
                    if "functionCall" in part or "function_call" in part:
                        part["thoughtSignature"] = UNSIGNED
    return removed


_REMOVERS: Mapping[Dialect, Callable[[dict[str, Any]], bool]] = {
    "messages": _from_messages,
    "chat": _from_chat,
    "responses": _from_responses,
    "generate_content": _from_generate_content,
}
