"""Read Anthropic's Messages answers into events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sluicegate.translation.answers.reader import AnswerReader, dict_of, dicts_in, failed, index_of, text_of
from sluicegate.translation.answers.token_usage import MessagesUsage
from sluicegate.translation.conversation import Opaque
from sluicegate.translation.events import (
    Event,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingOpaque,
    ToolArgumentsDelta,
    ToolCallEnded,
    ToolCallStarted,
)

_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_window",
}


class MessagesReader(AnswerReader):
    """Read one Messages answer. Blocks of Anthropic's own tools are left out: no translated call can have asked for them."""

    body_names = ("content",)

    def __init__(self) -> None:
        self._usage = MessagesUsage()
        self._whole_input: dict[int, Any] = {}
        """The input of calls that came with their block's start, and not yet in pieces, by block."""
        self._calls: set[int] = set()
        self._reason: FinishReason | None = None
        self._sequence: str | None = None

    def read(self, name: str, value: dict[str, Any]) -> Iterator[Event]:
        """Yield what one event says."""
        kind = text_of(value.get("type")) or name
        if kind == "message_start":
            message = dict_of(value.get("message"))
            self._usage.report(message.get("usage"))
            yield Started(text_of(message.get("id")), text_of(message.get("model")), self._usage.total())
        elif kind == "content_block_start":
            yield from self._start(index_of(value.get("index")) or 0, dict_of(value.get("content_block")))
        elif kind == "content_block_delta":
            yield from self._delta(index_of(value.get("index")) or 0, dict_of(value.get("delta")))
        elif kind == "content_block_stop":
            yield from self._stop(index_of(value.get("index")) or 0)
        elif kind == "message_delta":
            self._usage.report(value.get("usage"))
            self._note_end(dict_of(value.get("delta")))
        elif kind == "message_stop":
            yield self._finished()
        elif kind == "error" or "error" in value:
            yield failed(value)

    def whole(self, value: dict[str, Any]) -> Iterator[Event]:
        """Yield what a message says."""
        self._usage.report(value.get("usage"))
        yield Started(text_of(value.get("id")), text_of(value.get("model")), self._usage.total())
        for index, block in enumerate(dicts_in(value.get("content"))):
            yield from self._start(index, block)
            yield from self._stop(index)
        self._note_end(value)
        yield self._finished()

    def end(self) -> Iterable[Event]:
        """Return the end: a message is complete once it has a reason to stop, also without its last event."""
        return [self._finished()] if self._reason else super().end()

    def _start(self, index: int, block: dict[str, Any]) -> Iterator[Event]:
        kind = block.get("type")
        if kind == "text":
            yield TextDelta(text_of(block.get("text")))
        elif kind == "thinking":
            yield ThinkingDelta(text_of(block.get("thinking")))
            if signature := text_of(block.get("signature")):
                yield ThinkingOpaque(Opaque("messages", signature))
        elif kind == "redacted_thinking":
            yield ThinkingOpaque(Opaque("messages", text_of(block.get("data")), redacted=True))
        elif kind == "tool_use":
            self._calls.add(index)
            if block.get("input"):
                self._whole_input[index] = block["input"]
            yield ToolCallStarted(index, text_of(block.get("id")), text_of(block.get("name")))

    def _delta(self, index: int, delta: dict[str, Any]) -> Iterator[Event]:
        kind = delta.get("type")
        if kind == "text_delta":
            yield TextDelta(text_of(delta.get("text")))
        elif kind == "thinking_delta":
            yield ThinkingDelta(text_of(delta.get("thinking")))
        elif kind == "signature_delta":
            if signature := text_of(delta.get("signature")):
                yield ThinkingOpaque(Opaque("messages", signature))
        elif kind == "input_json_delta" and index in self._calls and (text := text_of(delta.get("partial_json"))):
            self._whole_input.pop(index, None)
            yield ToolArgumentsDelta(index, text)

    def _stop(self, index: int) -> Iterator[Event]:
        if index in self._calls:
            if index in self._whole_input:
                given = self._whole_input.pop(index)
                yield ToolArgumentsDelta(index, given if isinstance(given, str) else json.dumps(given, ensure_ascii=False))
            yield ToolCallEnded(index)

    def _note_end(self, fields: dict[str, Any]) -> None:
        if reason := text_of(fields.get("stop_reason")):
            self._reason = _REASONS.get(reason, "stop")
            self._sequence = text_of(fields.get("stop_sequence")) or None

    def _finished(self) -> Finished:
        return Finished(self._reason or "stop", self._sequence, self._usage.total())
