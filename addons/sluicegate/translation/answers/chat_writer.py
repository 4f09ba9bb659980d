"""Write answers as OpenAI's Chat Completions API does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sluicegate.translation.answers.arguments import custom_input
from sluicegate.translation.answers.errors import error_value
from sluicegate.translation.answers.framing import EVENT_STREAM, data_event
from sluicegate.translation.answers.token_usage import write_chat_usage
from sluicegate.translation.answers.writer import Answer, AnswerWriter, CallPart, Setting, TextPart, ThinkingPart
from sluicegate.translation.conversation import Opaque
from sluicegate.translation.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingOpaque,
    TokenUsage,
    ToolArgumentsDelta,
    ToolCallEnded,
    ToolCallStarted,
)
from sluicegate.translation.opaque import pack

FINISH_REASONS: Mapping[FinishReason, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "pause": "stop",
    "context_window": "length",
}

DONE = b"data: [DONE]\n\n"


class ChatWriter(AnswerWriter):
    """Write one completion with one choice. Reasoning goes where DeepSeek puts it, and most clients look for it."""

    content_type = EVENT_STREAM

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._model = setting.context.target_model
        self._includes_usage = setting.context.request.include_usage
        self._thinking = ""
        self._details = 0
        self._custom: dict[int, str] = {}
        """Arguments of calls of custom tools so far; their text is known when they are complete."""
        self._has_refused = False

    def write(self, event: Event) -> bytes:
        """Return what an event adds to the stream."""
        match event:
            case Started():
                self._model = event.model or self._model
                return self._chunk({"role": "assistant", "content": "", "refusal": None})
            case TextDelta(text):
                return self._chunk({"content": text})
            case RefusalDelta(text):
                self._has_refused = True
                return self._chunk({"refusal": text})
            case ThinkingDelta() | ThinkingOpaque():
                return self._reasoning(event)
            case ToolCallStarted():
                return self._start_call(event)
            case ToolArgumentsDelta(index, text):
                return self._arguments(index, text)
            case ToolCallEnded(index):
                return self._end_custom(index)
            case Finished():
                return self._finish(event)
            case Failed():
                return data_event(error_value("chat", event))

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return a completion."""
        texts = ["", ""]
        calls: list[dict[str, Any]] = []
        thinking: list[str] = []
        details: list[dict[str, Any]] = []
        for part in answer.parts:
            if isinstance(part, TextPart):
                texts[part.is_refusal] += part.text
            elif isinstance(part, CallPart):
                calls.append(_whole_call(part))
            elif isinstance(part, ThinkingPart):
                thinking += [part.text] if part.text else []
                detail = self._detail(part.opaque, part.text) if part.opaque else None
                details += [detail] if detail else []
        message: dict[str, Any] = {"role": "assistant", "content": texts[0] or None, "refusal": texts[1] or None}
        if thinking:
            message["reasoning_content"] = "\n\n".join(thinking)
        if details:
            message["reasoning_details"] = details
        if calls:
            message["tool_calls"] = calls
        reason = answer.ending.reason if isinstance(answer.ending, Finished) else "stop"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(reason, bool(texts[1]))}
        return {
            "id": f"chatcmpl-{self._setting.unique}",
            "object": "chat.completion",
            "created": self._setting.created_s,
            "model": answer.started.model or self._model,
            "choices": [choice],
            "usage": write_chat_usage(answer.usage),
            "system_fingerprint": None,
        }

    def _detail(self, opaque: Opaque, text: str) -> dict[str, Any] | None:
        """Return what only its maker can read, in the list that some clients send back; with its text, which they may not keep."""
        if opaque.origin == "chat" and not opaque.data.startswith("["):
            return None
        index, self._details = self._details, self._details + 1
        return {"type": "reasoning.encrypted", "data": pack(replace(opaque, text=text or opaque.text)), "index": index}

    def _reasoning(self, event: ThinkingDelta | ThinkingOpaque) -> bytes:
        if isinstance(event, ThinkingDelta):
            self._thinking += event.text
            return self._chunk({"reasoning_content": event.text})
        detail, self._thinking = self._detail(event.opaque, self._thinking), ""
        return self._chunk({"reasoning_details": [detail]}) if detail else b""

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._choices([choice], None)

    def _choices(self, choices: list[dict[str, Any]], usage: TokenUsage | None) -> bytes:
        chunk: dict[str, Any] = {
            "id": f"chatcmpl-{self._setting.unique}",
            "object": "chat.completion.chunk",
            "created": self._setting.created_s,
            "model": self._model,
            "system_fingerprint": None,
            "choices": choices,
        }
        if self._includes_usage:
            chunk["usage"] = write_chat_usage(usage) if usage else None
        return data_event(chunk)

    def _start_call(self, call: ToolCallStarted) -> bytes:
        entry: dict[str, Any] = {"index": call.index, "id": call.id}
        if call.kind == "custom":
            self._custom[call.index] = ""
            return self._chunk({"tool_calls": [entry | {"type": "custom", "custom": {"name": call.name, "input": ""}}]})
        return self._chunk({"tool_calls": [entry | {"type": "function", "function": {"name": call.name, "arguments": ""}}]})

    def _arguments(self, index: int, text: str) -> bytes:
        if index in self._custom:
            self._custom[index] += text
            return b""
        return self._chunk({"tool_calls": [{"index": index, "function": {"arguments": text}}]})

    def _end_custom(self, index: int) -> bytes:
        if index not in self._custom:
            return b""
        text = custom_input(self._custom.pop(index))
        return self._chunk({"tool_calls": [{"index": index, "custom": {"input": text}}]})

    def _finish(self, event: Finished) -> bytes:
        written = self._chunk({}, _reason(event.reason, self._has_refused))
        if self._includes_usage:
            written += self._choices([], event.usage or TokenUsage())
        return written + DONE


def _reason(reason: FinishReason, has_refused: bool) -> str:
    # A refusal in words ends like any other message; its words stand in their own field.
    return "stop" if reason == "refusal" and has_refused else FINISH_REASONS[reason]


def _whole_call(part: CallPart) -> dict[str, Any]:
    call = part.call
    if call.kind == "custom":
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": custom_input(part.arguments)}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": part.arguments or "{}"}}
