"""What Codex adds to each item of a request that says nothing of what is asked: an id, a turn and a time of its own."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from sluicegate.providers.openai.responses_parts import RESPONSES_TEXT
from sluicegate.providers.requests.body import first_duplicate
from sluicegate.values import RequestFacts

PASSTHROUGH = "internal_chat_message_metadata_passthrough"
"""The member of an item that holds them. Source: Codex 0.169, 2026-11."""

_LABELLED = (b'"message"', b'"additional_tools"')
"""Types of items whose ids the client makes up; those of others tie an answer to what it answers."""

_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def without_passthrough(facts: RequestFacts, path: str) -> RequestFacts:
    """Return the facts of a call of the Responses API as if its items had none of that; the same facts where none has any.

    What is left must be text, as everywhere else.
    """
    members = facts.members
    if facts.is_text_only or not members or not path.partition("?")[0].endswith("/responses"):
        return facts
    written = bytes(members.get("input", b""))
    if not written.startswith(b"[") or PASSTHROUGH.encode() not in written:
        return facts
    items = [_bare(bytes(item)) for item in _LIST.decode(written)]
    if None in items:
        return facts
    bare: dict[str, Any] = members | {"input": msgspec.Raw(b"[%s]" % b",".join(item for item in items if item is not None))}
    try:
        RESPONSES_TEXT.decode(msgspec.json.encode(bare))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return facts
    return facts._replace(is_text_only=True, members=bare)


def _bare(item: bytes) -> bytes | None:
    """Return an item without them; None for one that has a member twice, or is none."""
    if not item.startswith(b"{"):
        return None
    fields = _OBJECT.decode(item)
    if first_duplicate(item, fields) is not None:
        return None
    left_out = {PASSTHROUGH, "id"} if bytes(fields.get("type", b"")) in _LABELLED else {PASSTHROUGH}
    kept = (b"%s:%s" % (json.dumps(name).encode(), bytes(value)) for name, value in fields.items() if name not in left_out)
    return b"{%s}" % b",".join(kept)
