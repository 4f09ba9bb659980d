"""Measure the content of a Messages answer: what was delivered, what was thought unseen, and which models took over."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from sluicegate.providers.answers.usage_reader import MAX_COUNT, UsageReader, json_text, parse_count

_DELTA_STRINGS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "compaction_delta": "content",
}
"""The string that each kind of delta carries. Signatures and citations are measured by rules of their own."""


class MessagesContent(UsageReader):
    """The content of one answer, as far as its usage depends on it."""

    def __init__(self) -> None:
        super().__init__()
        self._attempts_with_output: tuple[bool, ...] = ()
        """For each attempt that another model took over from, whether it had delivered any output."""
        self._written_at_fallback = 0
        self._thoughts = 0  # pieces of thinking, which are output even where nothing of it is shown
        self._searches = 0
        """Web searches whose results have come; one that failed is free."""
        self._thinking: dict[int | None, int] = {}
        """Characters of thinking by content block."""

    @abstractmethod
    def _note_model(self, model: Any) -> None:
        """Note the model that answers."""

    def _written(self) -> int:
        """Return a measure of what the model has written so far, seen or unseen; 0 if that is nothing."""
        return self.delivered.characters + self._thoughts

    def measure(self, event: Any) -> None:
        """Add what a delta, or the beginning of a content block, has delivered."""
        if not isinstance(event, dict):
            return
        delta = event.get("delta")
        # Nearly all deltas are of text, and a cut stream may have thousands.
        if isinstance(delta, dict) and delta.get("type") == "text_delta" and isinstance(text := delta.get("text"), str):
            self._delivered.characters += len(text)
            return
        block = event.get("content_block")
        if isinstance(block, dict):
            self._measure_block(block, event.get("index"))
        if isinstance(delta, dict):
            self._measure_delta(delta, event.get("index"))

    def _measure_delta(self, delta: dict[str, Any], index: Any) -> None:
        kind = delta.get("type")
        name = _DELTA_STRINGS.get(kind) if isinstance(kind, str) else None
        if kind == "thinking_delta":
            self._note_thinking(delta, index)
        if kind == "signature_delta":
            self._measure_signature(delta.get("signature"), index)
        elif kind == "citations_delta":
            # A quotation is not billed as output. But it shows that the model was writing, so a cut answer counts it.
            citation = delta.get("citation")
            self.deliver(citation.get("cited_text") if isinstance(citation, dict) else None)
        elif name is not None:
            self.deliver(delta.get(name))
        else:
            self._deliver_strings(delta)

    def _measure_block(self, block: dict[str, Any], index: Any) -> None:
        kind = block.get("type")
        if kind == "fallback":
            self._note_fallback(block)
        elif kind == "thinking":
            self._note_thinking(block, index)
            self.deliver(block.get("thinking"))
            self._measure_signature(block.get("signature"), index)
        elif kind == "text":
            self.deliver(block.get("text"))
            citations = block.get("citations")
            for citation in citations if isinstance(citations, list) else ():
                self.deliver(citation.get("cited_text") if isinstance(citation, dict) else None)
        elif kind == "advisor_tool_result":
            # Other tools' results are input; this one was written by a model.
            content = block.get("content")
            self._deliver_strings(content if isinstance(content, dict) else {})
        elif not isinstance(kind, str) or not (kind.endswith("_tool_result") or kind == "container_upload"):
            self._delivered.has_hidden |= kind == "redacted_thinking"
            self._deliver_strings(block)
            if tool_input := block.get("input"):
                self.deliver(json_text(tool_input))
        else:
            self._searches += kind == "web_search_tool_result" and isinstance(block.get("content"), list)

    def _note_thinking(self, fields: dict[str, Any], index: Any) -> None:
        """Note thinking, which is billed in full and delivered as a summary or not at all."""
        self._delivered.has_hidden = True
        self._thoughts += 1
        counted, text = parse_count(fields.get("estimated_tokens")) or 0, fields.get("thinking")
        self._delivered.hidden_tokens += counted
        if isinstance(text, str):
            # Where the provider counts what it hides, the signature adds nothing to that. An index may be written 1.0.
            block = parse_count(index)
            self._thinking[block] = self._thinking.get(block, 0) + (MAX_COUNT if counted else len(text))

    def _measure_signature(self, signature: Any, index: Any) -> None:
        """Count a signature: it is the block's thinking once more, encrypted, so only what is longer counts."""
        if isinstance(signature, str):
            shown = self._thinking.pop(parse_count(index), 0)
            self._delivered.has_hidden = True
            self._delivered.characters += max(0, len(signature) - shown)

    def _note_fallback(self, block: dict[str, Any]) -> None:
        """Note that another model takes over: its content follows, and what there is was the model's before it."""
        self._attempts_with_output += (self._written() > self._written_at_fallback,)
        self._written_at_fallback = self._delivered.characters + self._thoughts
        target = block.get("to")
        self._note_model(target.get("model") if isinstance(target, dict) else None)

    def _deliver_strings(self, fields: dict[str, Any]) -> None:
        """Count all strings of something unknown but its type and ids: better too much than nothing."""
        for name, value in fields.items():
            if name != "type" and not name.endswith("id") and name != "stop_reason":
                self.deliver(value)
