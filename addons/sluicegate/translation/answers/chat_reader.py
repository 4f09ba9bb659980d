"""Read Chat Completions answers into events, in the forms of OpenAI and of all who copy it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sluicegate.translation.answers.arguments import CustomInput
from sluicegate.translation.answers.reader import AnswerReader, dict_of, dicts_in, failed, index_of, text_of
from sluicegate.translation.answers.reasoning import ReasoningText
from sluicegate.translation.answers.token_usage import OpenAIUsage
from sluicegate.translation.events import (
    Event,
    Finished,
    FinishReason,
    RefusalDelta,
    Started,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallEnded,
    ToolCallStarted,
)

_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "context_window",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "refusal": "refusal",
}
"""OpenAI's reasons, and those that others have added; whatever else a server says, it has stopped."""


@dataclass(slots=True)
class _Call:
    """A call in a stream, by the index we gave it."""

    index: int
    id: str = ""
    name: str = ""
    custom: CustomInput | None = None
    waiting: str = ""
    """Arguments that came before the name."""


class ChatReader(AnswerReader):
    """Read the first choice of one Chat Completions answer."""

    body_names = ("choices",)

    def __init__(self) -> None:
        self._usage = OpenAIUsage()
        self._reasoning = ReasoningText()
        self._has_started = False
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._reason: FinishReason | None = None
        self._sequence: str | None = None

    def read(self, name: str, value: dict[str, Any]) -> Iterator[Event]:
        """Yield what one chunk says."""
        # vLLM's errors have no field for it.
        if value.get("error") or name == "error" or value.get("object") == "error":
            yield failed(value)
            return
        if not self._has_started and (value.get("choices") or value.get("id")):
            self._has_started = True
            yield Started(text_of(value.get("id")), text_of(value.get("model")))
        self._report(value)
        choices = dicts_in(value.get("choices"))
        for choice in choices:
            if (index_of(choice.get("index")) or 0) == 0 and self._reason is None:
                yield from self._choice(choice, dict_of(choice.get("delta")) or dict_of(choice.get("message")))
        if self._reason is not None and not choices and isinstance(value.get("usage"), dict):
            # OpenAI's last chunk: only [DONE] can follow it.
            yield self._finished()

    def whole(self, value: dict[str, Any]) -> Iterator[Event]:
        """Yield what a completion says."""
        self._report(value)
        yield Started(text_of(value.get("id")), text_of(value.get("model")), self._usage.total())
        choices = dicts_in(value.get("choices"))
        for choice in sorted(choices, key=lambda choice: index_of(choice.get("index")) or 0)[:1]:
            yield from self._choice(choice, dict_of(choice.get("message")))
        yield from self._reasoning.end()
        yield self._finished()

    def done(self) -> Iterable[Event]:
        """Return the end that ``[DONE]`` announces, if a reason was given before it."""
        return self.end()

    def end(self) -> Iterable[Event]:
        """Return the end: complete if there was a reason to finish."""
        return [self._finished()] if self._reason else super().end()

    def _report(self, value: dict[str, Any]) -> None:
        self._usage.report(value.get("usage"))
        # Groq's name for it in a stream.
        self._usage.report(dict_of(value.get("x_groq")).get("usage"))

    def _choice(self, choice: dict[str, Any], delta: dict[str, Any]) -> Iterator[Event]:
        yield from self._reasoning.read(delta)
        yield from self._content(delta.get("content"))
        if refusal := text_of(delta.get("refusal")):
            yield RefusalDelta(refusal)
        calls = dicts_in(delta.get("tool_calls"))
        if calls or delta.get("function_call"):
            yield from self._reasoning.end()
        for call in calls:
            yield from self._call(call)
        if isinstance(legacy := delta.get("function_call"), dict):
            yield from self._call({"index": 0, "function": legacy})
        self._usage.report(choice.get("usage"))
        if reason := text_of(choice.get("finish_reason")):
            yield from self._reasoning.end()
            if reason == "error":
                yield failed(choice)
                return
            self._reason = _REASONS.get(reason.lower(), "stop")
            # vLLM and SGLang name the sequence, or the token, at which they stopped.
            matched = choice.get("stop_reason", choice.get("matched_stop"))
            if isinstance(matched, str) and matched and self._reason == "stop":
                self._reason, self._sequence = "stop_sequence", matched
            for each in self._calls:
                if each.custom:
                    yield ToolArgumentsDelta(each.index, each.custom.end())
                yield ToolCallEnded(each.index)

    def _content(self, content: Any) -> Iterator[Event]:
        """Yield a message's content: a text, or with some servers a list of parts."""
        if isinstance(content, str):
            if content:
                yield from self._reasoning.end()
                yield TextDelta(content)
            return
        for part in dicts_in(content):
            if part.get("type") == "thinking":
                yield from self._reasoning.read_part(part)
            elif part.get("type") in ("text", "output_text"):
                yield from self._content(text_of(part.get("text")))
            elif part.get("type") == "refusal":
                yield RefusalDelta(text_of(part.get("refusal")))

    def _call(self, entry: dict[str, Any]) -> Iterator[Event]:
        custom = entry.get("custom")
        body = dict_of(custom if isinstance(custom, dict) else entry.get("function"))
        call = self._call_of(entry, text_of(body.get("name")))
        if isinstance(custom, dict) and call.custom is None:
            call.custom = CustomInput()
        call.id = call.id or text_of(entry.get("id"))
        arguments = body.get("input") if isinstance(custom, dict) else body.get("arguments")
        if isinstance(arguments, dict | list):
            arguments = json.dumps(arguments, ensure_ascii=False)
        text = call.waiting + text_of(arguments)
        if not call.name:
            call.name, call.waiting = text_of(body.get("name")), text
            if not call.name:
                return
            yield ToolCallStarted(call.index, call.id, call.name)
        call.waiting = ""
        if text:
            yield ToolArgumentsDelta(call.index, call.custom.feed(text) if call.custom else text)

    def _call_of(self, entry: dict[str, Any], name: str) -> _Call:
        """Return the call that an entry continues, or a new one.

        Some servers number every call 0, some none at all: an id or a name that differs begins another call.
        """
        index, call_id = index_of(entry.get("index")), text_of(entry.get("id"))
        call = self._by_index.get(index) if index is not None else (self._calls[-1] if self._calls else None)
        begins = bool(call_id) and call is not None and bool(call.id) and call.id != call_id and bool(name)
        if call is None or begins or (index is None and name):
            call = _Call(len(self._calls))
            self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call

    def _finished(self) -> Finished:
        return Finished(self._reason or "stop", self._sequence, self._usage.total())
