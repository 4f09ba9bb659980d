"""Read OpenAI's Responses answers into events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sluicegate.translation.answers.arguments import CustomInput
from sluicegate.translation.answers.reader import AnswerReader, dict_of, dicts_in, failed, index_of, text_of
from sluicegate.translation.answers.token_usage import OpenAIUsage
from sluicegate.translation.conversation import Opaque
from sluicegate.translation.events import (
    Event,
    Finished,
    FinishReason,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingOpaque,
    ToolArgumentsDelta,
    ToolCallEnded,
    ToolCallStarted,
)

_OPENING = ("response.created", "response.queued", "response.in_progress")
_CLOSING = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")

BETWEEN_SUMMARIES = "\n\n"
"""What stands between the parts of a reasoning summary, for dialects that have one text."""


@dataclass(slots=True)
class _Item:
    """What has been said of one output item."""

    given: dict[tuple[str, int], int] = field(default_factory=dict)
    """Characters given on, by the kind of text and its index in the item."""
    custom: CustomInput | None = None
    has_started: bool = False
    is_done: bool = False


class ResponsesReader(AnswerReader):
    """Read one Responses answer. What a final event says counts where the deltas left it out."""

    body_names = ("output",)

    def __init__(self) -> None:
        self._usage = OpenAIUsage()
        self._items: dict[int, _Item] = {}

    def read(self, name: str, value: dict[str, Any]) -> Iterator[Event]:
        """Yield what one event says."""
        kind = text_of(value.get("type")) or name
        if kind in _OPENING:
            response = dict_of(value.get("response"))
            yield Started(text_of(response.get("id")), text_of(response.get("model")))
        elif kind in _CLOSING:
            yield from self._close(dict_of(value.get("response")), kind.removeprefix("response."))
        elif kind == "error" or (not kind and value.get("error")):
            yield failed(value)
        elif kind == "response.output_item.added":
            yield from self._start(index_of(value.get("output_index")) or 0, dict_of(value.get("item")))
        elif kind == "response.output_item.done":
            yield from self._whole_item(index_of(value.get("output_index")) or 0, dict_of(value.get("item")))
        else:
            yield from self._piece(kind, value)

    def whole(self, value: dict[str, Any]) -> Iterator[Event]:
        """Yield what a response object says."""
        yield Started(text_of(value.get("id")), text_of(value.get("model")))
        yield from self._close(value, text_of(value.get("status")) or "completed")

    def _item(self, index: int) -> _Item:
        return self._items.setdefault(index, _Item())

    def _start(self, index: int, item: dict[str, Any]) -> Iterator[Event]:
        """Begin a call, which is known by its name; other items begin with their text."""
        state = self._item(index)
        if state.has_started or item.get("type") not in ("function_call", "custom_tool_call"):
            return
        state.has_started = True
        if item["type"] == "custom_tool_call":
            state.custom = CustomInput()
        yield ToolCallStarted(index, text_of(item.get("call_id")) or text_of(item.get("id")), text_of(item.get("name")))

    def _piece(self, kind: str, value: dict[str, Any]) -> Iterator[Event]:
        index = index_of(value.get("output_index")) or 0
        part = index_of(value.get("content_index", value.get("summary_index"))) or 0
        subject, _, stage = kind.removeprefix("response.").rpartition(".")
        field_name = {
            "output_text": "text",
            "refusal": "refusal",
            "reasoning_summary_text": "text",
            "reasoning_text": "text",
            "function_call_arguments": "arguments",
            "custom_tool_call_input": "input",
        }.get(subject)
        if field_name is None:
            return
        if stage == "delta":
            yield from self._text(index, subject, part, text_of(value.get("delta")))
        elif stage == "done":
            yield from self._rest(index, subject, part, text_of(value.get(field_name)))

    def _rest(self, index: int, subject: str, part: int, whole: str) -> Iterator[Event]:
        """Yield what is left of a text when its whole is known."""
        yield from self._text(index, subject, part, whole[self._item(index).given.get((subject, part), 0) :])

    def _text(self, index: int, subject: str, part: int, text: str) -> Iterator[Event]:
        if not text:
            return
        state = self._item(index)
        if subject == "reasoning_text" and any(kind == "reasoning_summary_text" for kind, _ in state.given):
            # A summary says the same in fewer words.
            return
        is_new = (subject, part) not in state.given
        state.given[subject, part] = state.given.get((subject, part), 0) + len(text)
        if subject == "output_text":
            yield TextDelta(text)
        elif subject == "refusal":
            yield RefusalDelta(text)
        elif subject in ("reasoning_summary_text", "reasoning_text"):
            yield ThinkingDelta(BETWEEN_SUMMARIES + text if is_new and part else text)
        else:
            yield ToolArgumentsDelta(index, state.custom.feed(text) if state.custom else text)

    def _whole_item(self, index: int, item: dict[str, Any]) -> Iterator[Event]:
        """Yield what is new in an item that is complete."""
        state, kind = self._item(index), item.get("type")
        if state.is_done:
            return
        state.is_done = True
        if kind == "message":
            for part, content in enumerate(dicts_in(item.get("content"))):
                if content.get("type") == "refusal":
                    yield from self._rest(index, "refusal", part, text_of(content.get("refusal")))
                else:
                    yield from self._rest(index, "output_text", part, text_of(content.get("text")))
        elif kind == "reasoning":
            yield from self._whole_reasoning(index, item)
        elif kind in ("function_call", "custom_tool_call"):
            yield from self._start(index, item)
            if kind == "custom_tool_call":
                yield from self._rest(index, "custom_tool_call_input", 0, text_of(item.get("input")))
            else:
                arguments = item.get("arguments")
                text = json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else text_of(arguments)
                yield from self._rest(index, "function_call_arguments", 0, text)
            if state.custom:
                yield ToolArgumentsDelta(index, state.custom.end())
            yield ToolCallEnded(index)

    def _whole_reasoning(self, index: int, item: dict[str, Any]) -> Iterator[Event]:
        for subject, texts in (("reasoning_summary_text", item.get("summary")), ("reasoning_text", item.get("content"))):
            for part, entry in enumerate(dicts_in(texts)):
                yield from self._rest(index, subject, part, text_of(entry.get("text")))
        if encrypted := text_of(item.get("encrypted_content")):
            yield ThinkingOpaque(Opaque("responses", encrypted, id=text_of(item.get("id"))))

    def _close(self, response: dict[str, Any], status: str) -> Iterator[Event]:
        self._usage.report(response.get("usage"))
        if status in ("failed", "cancelled"):
            yield failed(
                {"error": response.get("error")} if response.get("error") else {"error": {"message": f"The response was {status}."}}
            )
            return
        output = response.get("output")
        for index, item in enumerate(output if isinstance(output, list) else []):
            yield from self._whole_item(index, dict_of(item))
        reason: FinishReason = "stop"
        if status == "incomplete":
            cause = dict_of(response.get("incomplete_details")).get("reason")
            reason = "content_filter" if cause == "content_filter" else "length"
        yield Finished(reason, None, self._usage.total())
