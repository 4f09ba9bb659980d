"""Whether the answer of a call may be kept at all, by what the call says. Whatever nobody knows to be safe is not kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sluicegate.calls.call import Call
from sluicegate.values import RequestFacts

PROTOCOLS = ("anthropic", "openai", "gemini")
"""The protocols whose answers are kept. Bedrock's frames have checksums over ids that change."""


_KEPT_ELSEWHERE = frozenset(("previous_response_id", "conversation", "background", "container", "cachedContent"))
_VARYING = frozenset(("temperature", "generationConfig", "generation_config"))


def why_not_kept(call: Call, facts: RequestFacts, path: str, *, sampled: bool) -> str | None:
    """Return why the answer of a call is neither looked up nor kept, in a word; None if it may be."""
    members = facts.members
    if call.policy is None or call.principal is None or call.login is not None:
        return "caller"
    if not members:
        # Of a large body, or one that was read in a copy, there are none.
        return "body"
    path = path.partition("?")[0]
    if call.policy.providers[call.envelope].protocol not in PROTOCOLS or path.endswith("/compact"):
        return "api"
    if not facts.is_text_only:
        # Media, files, the provider's own tools, and whatever nobody knows yet.
        return "content"
    if _is_kept_elsewhere(members, path):
        return "state"
    return None if sampled or not _asks_to_vary(members) else "sampled"


def _is_kept_elsewhere(members: Mapping[str, Any], path: str) -> bool:
    """Return whether the provider keeps the answer too, so that a later call can name it by an id that a copy would not have."""
    if not _KEPT_ELSEWHERE.isdisjoint(members):
        return True
    store = bytes(members["store"]) if "store" in members else b""
    # In the responses API it is kept unless the call says otherwise.
    return store != b"false" if path.endswith("/responses") else store not in (b"", b"false", b"null")


def _asks_to_vary(members: Mapping[str, Any]) -> bool:
    """Return whether a call asks for a temperature above 0; one that says nothing of it has not asked for anything."""
    if _VARYING.isdisjoint(members):
        return False
    named = [members.get("temperature")]
    for name in ("generationConfig", "generation_config"):
        if name in members:
            try:
                named.append(msgspec.json.decode(members[name], type=dict[str, msgspec.Raw]).get("temperature"))
            except msgspec.DecodeError:
                return True
    return any(_is_above_zero(bytes(value)) for value in named if value is not None)


def _is_above_zero(written: bytes) -> bool:
    try:
        value = msgspec.json.decode(written)
    except msgspec.DecodeError:
        return True
    return value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value > 0)
