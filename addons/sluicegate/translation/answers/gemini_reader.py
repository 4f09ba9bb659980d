"""Read Gemini's generateContent answers into events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sluicegate.translation.answers.reader import AnswerReader, dict_of, dicts_in, failed, index_of, text_of
from sluicegate.translation.answers.token_usage import GeminiUsage
from sluicegate.translation.conversation import Opaque
from sluicegate.translation.events import (
    Event,
    Failed,
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
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "ESCALATION",
            "MODEL_ARMOR",
            "PUP_LIMITED_DISABLED",
        ),
        "content_filter",
    ),
}
"""Gemini's reasons to finish; the others, such as OTHER, say only that it did."""

_BROKEN = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE"})
"""Reasons that mean the model's answer could not be used; Google's own client sends the request again."""


class GeminiReader(AnswerReader):
    """Read the first candidate of one answer, streamed or not: a whole answer is a stream of one chunk."""

    body_names = ("candidates", "promptFeedback")

    def __init__(self) -> None:
        self._usage = GeminiUsage()
        self._has_started = self._has_text = False
        self._calls = 0
        self._reason: FinishReason | None = None
        self._broken: Failed | None = None

    def read(self, name: str, value: dict[str, Any]) -> Iterator[Event]:
        """Yield what one chunk says."""
        if value.get("error"):
            yield failed(value)
            return
        self._usage.report(value.get("usageMetadata"))
        if not self._has_started:
            self._has_started = True
            yield Started(text_of(value.get("responseId")), text_of(value.get("modelVersion")), self._usage.total())
        if dict_of(value.get("promptFeedback")).get("blockReason") and self._reason is None:
            self._reason = "content_filter"
        for candidate in dicts_in(value.get("candidates")):
            if (index_of(candidate.get("index")) or 0) == 0:
                yield from self._candidate(candidate)

    def whole(self, value: dict[str, Any]) -> Iterator[Event]:
        """Yield what an answer says that is not streamed."""
        yield from self.read("", value)
        yield from self.end()

    def end(self) -> Iterable[Event]:
        """Return the end. Gemini has no last event: a stream is complete once it has said why it finished."""
        if self._broken is not None and not self._calls:
            return [self._broken]
        return [Finished(self._reason, None, self._usage.total())] if self._reason else super().end()

    def _candidate(self, candidate: dict[str, Any]) -> Iterator[Event]:
        for part in dicts_in(dict_of(candidate.get("content")).get("parts")):
            yield from self._part(part)
        if reason := text_of(candidate.get("finishReason")):
            self._reason = _REASONS.get(reason.upper(), "stop")
            if reason.upper() in _BROKEN:
                why = text_of(candidate.get("finishMessage"))
                message = f"The model's answer could not be used ({reason}{f': {why}' if why else ''}); try again."
                self._broken = Failed(502, "server", message)

    def _part(self, part: dict[str, Any]) -> Iterator[Event]:
        signature = text_of(part.get("thoughtSignature"))
        call = part.get("functionCall")
        if isinstance(call, dict):
            if signature:
                yield ThinkingOpaque(Opaque("generate_content", signature))
            yield from self._call(call)
        elif part.get("thought"):
            yield ThinkingDelta(text_of(part.get("text")))
            if signature:
                yield ThinkingOpaque(Opaque("generate_content", signature))
        elif isinstance(part.get("text"), str):
            # Signatures of text are not checked, and thinking that follows a text would be out of place elsewhere.
            if signature and not self._has_text and not self._calls:
                yield ThinkingOpaque(Opaque("generate_content", signature))
            self._has_text |= bool(part["text"])
            yield TextDelta(part["text"])

    def _call(self, call: dict[str, Any]) -> Iterator[Event]:
        """Yield a call; Gemini sends each in one piece, and often without an id."""
        index, self._calls = self._calls, self._calls + 1
        arguments = call.get("args")
        text = arguments if isinstance(arguments, str) else json.dumps(dict_of(arguments), ensure_ascii=False)
        yield ToolCallStarted(index, text_of(call.get("id")), text_of(call.get("name")))
        yield ToolArgumentsDelta(index, text)
        yield ToolCallEnded(index)
