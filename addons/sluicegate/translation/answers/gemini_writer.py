"""Write answers as Gemini's generateContent API does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sluicegate.translation.answers.arguments import is_object, parse_arguments
from sluicegate.translation.answers.errors import error_value
from sluicegate.translation.answers.framing import EVENT_STREAM, JSON, data_event, encode
from sluicegate.translation.answers.token_usage import write_gemini_usage
from sluicegate.translation.answers.writer import Answer, AnswerWriter, CallPart, Part, Setting, TextPart, kept_by
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

FINISH_REASONS: Mapping[FinishReason, str] = {
    "stop": "STOP",
    "stop_sequence": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
    "pause": "STOP",
    "context_window": "MAX_TOKENS",
}

PING_DELTAS = 64
"""Pieces of arguments after which something is sent while a call is being gathered: about a second of a model's output."""


class GeminiWriter(AnswerWriter):
    """Write one candidate, in events or as a JSON list of chunks. A call goes out when it is complete: it can't be cut."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._is_list = setting.context.stream == "json"
        self.content_type = JSON if self._is_list else EVENT_STREAM
        self._model = setting.context.target_model
        self._usage = TokenUsage()
        self._chunks = 0
        self._thinking = ""
        self._opaque: Opaque | None = None
        """What belongs to the part that comes next."""
        self._call: CallPart | None = None
        self._silent = 0
        self._has_broken_call = self._has_refused = False

    def write(self, event: Event) -> bytes:
        """Return what an event adds to the stream."""
        match event:
            case Started():
                self._model, self._usage = event.model or self._model, event.usage or self._usage
                return b""
            case TextDelta(text) | RefusalDelta(text):
                self._has_refused |= isinstance(event, RefusalDelta)
                return self._chunk([self._signed({"text": text})])
            case ThinkingDelta(text):
                self._thinking += text
                return self._chunk([{"text": text, "thought": True}])
            case ThinkingOpaque(opaque):
                return self._keep(opaque)
            case ToolCallStarted():
                self._call = CallPart(event)
                return b""
            case ToolArgumentsDelta(_, text):
                return self._arguments(text)
            case ToolCallEnded():
                part = self._call_part(self._call) if self._call else None
                self._call = None
                return self._chunk([part]) if part else b""
            case Finished():
                self._usage = event.usage or self._usage
                return self._chunk([self._signed({"text": ""})], self._reason(event.reason)) + (b"\n]\n" if self._is_list else b"")
            case Failed():
                return self._frame(error_value("generate_content", event)) + (b"\n]\n" if self._is_list else b"")

    def ping(self) -> bytes:
        """Return a chunk without text: Google's clients take a comment for a part of an answer."""
        return self._chunk([{"text": ""}])

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return an answer that is not streamed."""
        self._model, self._usage = answer.started.model or self._model, answer.usage
        parts = [written for part in answer.parts for written in self._whole_part(part)]
        if self._opaque is not None or not parts:
            parts.append(self._signed({"text": ""}))
        reason = answer.ending.reason if isinstance(answer.ending, Finished) else "stop"
        return self._response(parts, self._reason(reason))

    def _whole_part(self, part: Part) -> list[dict[str, Any]]:
        if isinstance(part, TextPart):
            self._has_refused |= part.is_refusal
            return [self._signed({"text": part.text})]
        if isinstance(part, CallPart):
            written = self._call_part(part)
            return [written] if written else []
        parts = [{"text": part.text, "thought": True}] if part.text else []
        self._thinking = part.text
        if part.opaque is not None:
            before = self._take_opaque()
            parts = [{"text": "", "thought": True, "thoughtSignature": before}, *parts] if before else parts
            self._set_opaque(part.opaque)
        return parts

    def _arguments(self, text: str) -> bytes:
        """Add to the call's arguments; a long call must not look like a connection that hangs."""
        if self._call is None:
            return b""
        self._call.arguments += text
        self._silent += 1
        return self.ping() if self._silent % PING_DELTAS == 0 else b""

    def _keep(self, opaque: Opaque) -> bytes:
        before = self._take_opaque()
        self._set_opaque(opaque)
        return self._chunk([{"text": "", "thought": True, "thoughtSignature": before}]) if before else b""

    def _set_opaque(self, opaque: Opaque) -> None:
        """Keep it for the next part, with the thinking it belongs to: clients leave thoughts out of what they send back."""
        is_own = opaque.origin == "generate_content"
        self._opaque = opaque if is_own else replace(opaque, text=self._thinking or opaque.text)
        self._thinking = ""

    def _take_opaque(self) -> str | None:
        opaque, self._opaque = self._opaque, None
        return kept_by("generate_content", opaque) if opaque is not None else None

    def _signed(self, part: dict[str, Any]) -> dict[str, Any]:
        signature = self._take_opaque()
        return part | {"thoughtSignature": signature} if signature else part

    def _call_part(self, part: CallPart) -> dict[str, Any] | None:
        """Return a call; none for one that was cut off, which no client could tell from a complete one."""
        if not is_object(part.arguments or "{}"):
            self._has_broken_call = True
            return None
        call = {"id": part.call.id, "name": part.call.name, "args": parse_arguments(part.arguments)}
        return self._signed({"functionCall": call})

    def _reason(self, reason: FinishReason) -> str:
        if self._has_broken_call and reason != "length":
            return "MALFORMED_FUNCTION_CALL"
        # A refusal in words can be read, which clients don't do after SAFETY.
        return "STOP" if reason == "refusal" and self._has_refused else FINISH_REASONS[reason]

    def _chunk(self, parts: list[dict[str, Any]], reason: str | None = None) -> bytes:
        return self._frame(self._response(parts, reason))

    def _response(self, parts: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
        if reason is not None:
            candidate["finishReason"] = reason
        candidate["index"] = 0
        return {
            "candidates": [candidate],
            "usageMetadata": write_gemini_usage(self._usage),
            "modelVersion": self._model,
            "responseId": self._setting.unique,
        }

    def _frame(self, value: dict[str, Any]) -> bytes:
        if not self._is_list:
            return data_event(value)
        self._chunks += 1
        return (b"[" if self._chunks == 1 else b",\r\n") + encode(value)
