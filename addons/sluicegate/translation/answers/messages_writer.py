"""Write answers as Anthropic's Messages API does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sluicegate.translation.answers.arguments import parse_arguments
from sluicegate.translation.answers.errors import error_value
from sluicegate.translation.answers.framing import EVENT_STREAM, named_event
from sluicegate.translation.answers.token_usage import write_messages_usage
from sluicegate.translation.answers.writer import Answer, AnswerWriter, CallPart, Part, Setting, TextPart, kept_by
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

STOP_REASONS: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "context_window": "model_context_window_exceeded",
}


class MessagesWriter(AnswerWriter):
    """Write one message: a start with usage, blocks one after another, a reason to stop, an end."""

    content_type = EVENT_STREAM

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._index = -1
        self._block: Literal["", "text", "thinking", "tool_use"] = ""
        self._blank = ""
        """White space that would begin a text. The API refuses texts of nothing else in the next turn, so it waits for more."""
        self._is_signed = False

    def write(self, event: Event) -> bytes:
        """Return what an event adds to the stream."""
        match event:
            case Started():
                return named_event("message_start", {"type": "message_start", "message": self._message(event)})
            case TextDelta(text) | RefusalDelta(text):
                return self._text(text)
            case ThinkingDelta(text):
                opened = b"" if self._block == "thinking" and not self._is_signed else self._open_thinking()
                return opened + self._delta({"type": "thinking_delta", "thinking": text})
            case ThinkingOpaque():
                return self._opaque(event)
            case ToolCallStarted(_, call_id, name):
                return self._open("tool_use", {"type": "tool_use", "id": call_id, "name": name, "input": {}})
            case ToolArgumentsDelta(_, text):
                return self._delta({"type": "input_json_delta", "partial_json": text})
            case ToolCallEnded():
                return self._close()
            case Finished():
                return self._finish(event)
            case Failed():
                return named_event("error", error_value("messages", event))

    def ping(self) -> bytes:
        """Return Anthropic's own event for it."""
        return named_event("ping", {"type": "ping"})

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return a message."""
        message = self._message(answer.started)
        message["content"] = [block for part in answer.parts if (block := self._whole_block(part))]
        if isinstance(answer.ending, Finished):
            message |= _stop(answer.ending)
        message["usage"] = write_messages_usage(answer.usage)
        return message

    def _message(self, started: Started) -> dict[str, Any]:
        return {
            "id": f"msg_{self._setting.unique}",
            "type": "message",
            "role": "assistant",
            "model": started.model or self._setting.context.target_model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": write_messages_usage(started.usage or TokenUsage()),
        }

    def _text(self, text: str) -> bytes:
        if self._block != "text":
            self._blank += text
            if not self._blank.strip():
                return b""
            text, self._blank = self._blank, ""
            return self._open("text", {"type": "text", "text": ""}) + self._delta({"type": "text_delta", "text": text})
        return self._delta({"type": "text_delta", "text": text})

    def _open_thinking(self) -> bytes:
        self._is_signed = False
        return self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})

    def _opaque(self, event: ThinkingOpaque) -> bytes:
        opaque = event.opaque
        if opaque.redacted:
            data = {"type": "redacted_thinking", "data": kept_by("messages", opaque)}
            return self._open("thinking", data) + self._close()
        opened = b"" if self._block == "thinking" and not self._is_signed else self._open_thinking()
        self._is_signed = True
        return opened + self._delta({"type": "signature_delta", "signature": kept_by("messages", opaque)}) + self._close()

    def _open(self, block: Literal["text", "thinking", "tool_use"], content: dict[str, Any]) -> bytes:
        closed, self._blank = self._close(), ""
        self._index += 1
        self._block = block
        start = {"type": "content_block_start", "index": self._index, "content_block": content}
        return closed + named_event("content_block_start", start)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return named_event("content_block_delta", {"type": "content_block_delta", "index": self._index, "delta": delta})

    def _close(self) -> bytes:
        if not self._block:
            return b""
        self._block = ""
        return named_event("content_block_stop", {"type": "content_block_stop", "index": self._index})

    def _finish(self, event: Finished) -> bytes:
        usage = write_messages_usage(event.usage or TokenUsage())
        delta = {"type": "message_delta", "delta": _stop(event), "usage": usage}
        return self._close() + named_event("message_delta", delta) + named_event("message_stop", {"type": "message_stop"})

    def _whole_block(self, part: Part) -> dict[str, Any] | None:
        if isinstance(part, TextPart):
            return {"type": "text", "text": part.text} if part.text.strip() else None
        if isinstance(part, CallPart):
            call = part.call
            return {"type": "tool_use", "id": call.id, "name": call.name, "input": parse_arguments(part.arguments)}
        if part.opaque is not None and part.opaque.redacted:
            return {"type": "redacted_thinking", "data": kept_by("messages", part.opaque)}
        signature = kept_by("messages", part.opaque) if part.opaque else ""
        return {"type": "thinking", "thinking": part.text, "signature": signature}


def _stop(event: Finished) -> dict[str, Any]:
    return {"stop_reason": STOP_REASONS[event.reason], "stop_sequence": event.stop_sequence}
