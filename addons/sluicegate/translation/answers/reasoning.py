"""Reasoning in Chat Completions answers: every server has a field of its own for it, and some have several at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sluicegate.translation.answers.reader import dicts_in, text_of
from sluicegate.translation.conversation import Opaque
from sluicegate.translation.events import Event, ThinkingDelta, ThinkingOpaque

_FIELDS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
"""DeepSeek's and most others', OpenRouter's and vLLM's, GitHub's, Ollama's."""


class ReasoningText:
    """Read the reasoning of one answer once, whichever fields repeat it."""

    def __init__(self) -> None:
        self._field = ""
        """The field that the reasoning came in, for the next turn."""
        self._details: list[dict[str, Any]] = []
        self._is_open = False

    def read(self, delta: dict[str, Any]) -> Iterator[Event]:
        """Yield the reasoning in a delta or a message."""
        details = dicts_in(delta.get("reasoning_details"))
        texts = [text_of(d.get("text")) or text_of(d.get("summary")) for d in details]
        for detail in details:
            self._keep(detail)
        self._is_open |= bool(details)
        # OpenRouter says the same in both fields, others only in one of them.
        if any(texts):
            yield from self._delta("".join(texts), "reasoning_details")
            return
        for field in _FIELDS:
            if text := text_of(delta.get(field)):
                yield from self._delta(text, field)
                return

    def read_part(self, part: dict[str, Any]) -> Iterator[Event]:
        """Yield the reasoning in a part of a message's content, as Mistral writes it."""
        thought = part.get("thinking")
        text = thought if isinstance(thought, str) else "".join(text_of(p.get("text")) for p in dicts_in(thought))
        if text:
            yield from self._delta(text, "reasoning_content")

    def end(self) -> Iterator[Event]:
        """Yield what closes the reasoning, when something else follows it."""
        if not self._is_open:
            return
        self._is_open = False
        details, self._details = self._details, []
        if details:
            yield ThinkingOpaque(Opaque("chat", json.dumps(details, ensure_ascii=False, separators=(",", ":"))))
        else:
            field = self._field if self._field in ("reasoning_content", "reasoning") else "reasoning_content"
            yield ThinkingOpaque(Opaque("chat", field))

    def _delta(self, text: str, field: str) -> Iterator[Event]:
        self._field, self._is_open = field, True
        yield ThinkingDelta(text)

    def _keep(self, detail: dict[str, Any]) -> None:
        """Add a piece of a detail to the one it continues."""
        last = self._details[-1] if self._details else None
        if last is None or last.get("type") != detail.get("type") or last.get("index") != detail.get("index"):
            self._details.append(dict(detail))
            return
        for name, value in detail.items():
            before = last.get(name)
            is_piece = name in ("text", "summary", "data") and isinstance(value, str) and isinstance(before, str)
            last[name] = f"{before}{value}" if is_piece else value if value is not None else before
