"""Tell, at the speed of the parser, a stream's chunks that carry content and say nothing new beside it: nearly all do.

A chunk that fits its type is read and then only kept. Whatever else stands in one, spelled in whatever way, does not fit, and
the chunk is read field by field.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sluicegate.providers.answers.usage_reader import MAX_COUNT


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class ChatChoice(msgspec.Struct, gc=False):
    """A choice that has not ended. The fields that are only null are those that say more where they are not."""

    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: None = None
    usage: None = None

    @property
    def has_text(self) -> bool:
        """Return whether it surely carries something that the model wrote."""
        delta = self.delta
        return bool(self.text or (delta is not None and (delta.content or delta.reasoning_content or delta.tool_calls)))


class ChatChunk(msgspec.Struct, gc=False):
    """A chunk of Chat Completions or of legacy completions."""

    model: str
    choices: list[ChatChoice]
    service_tier: str | None = None
    type: None = None
    usage: None = None
    error: None = None
    tool_usage: None = None
    x_groq: None = None


_Count = Annotated[int, msgspec.Meta(gt=0, lt=MAX_COUNT)] | None
"""A zero is not one: whether it replaces a count depends on what was seen before."""


class _PromptDetail(msgspec.Struct, gc=False):
    modality: Literal["TEXT", "IMAGE", "VIDEO", "DOCUMENT"] = "TEXT"


class _AnswerDetail(msgspec.Struct, gc=False):
    modality: Literal["TEXT"] = "TEXT"


class GeminiCounts(msgspec.Struct, gc=False, rename="camel"):
    """Usage metadata of text alone."""

    prompt_token_count: _Count = None
    cached_content_token_count: _Count = None
    tool_use_prompt_token_count: _Count = None
    candidates_token_count: _Count = None
    thoughts_token_count: _Count = None
    prompt_tokens_details: list[_PromptDetail] | None = None
    candidates_tokens_details: list[_AnswerDetail] | None = None
    service_tier: str | None = None
    traffic_type: str | None = None

    def covers(self, earlier: GeminiCounts) -> bool:
        """Return whether every count of an earlier report stands in this one too, so that the earlier one adds nothing."""
        return not (
            (earlier.prompt_token_count and not self.prompt_token_count)
            or (earlier.cached_content_token_count and not self.cached_content_token_count)
            or (earlier.tool_use_prompt_token_count and not self.tool_use_prompt_token_count)
            or (earlier.candidates_token_count and not self.candidates_token_count)
            or (earlier.thoughts_token_count and not self.thoughts_token_count)
        )


class _Part(msgspec.Struct, gc=False):
    text: str = ""


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part]


class GeminiCandidate(msgspec.Struct, gc=False, rename="camel"):
    """A candidate that has not ended."""

    content: _Content
    index: int = 0
    finish_reason: None = None
    grounding_metadata: None = None

    @property
    def has_text(self) -> bool:
        """Return whether it surely carries something that the model wrote."""
        return any(part.text for part in self.content.parts)


class GeminiChunk(msgspec.Struct, gc=False, rename="camel"):
    """A chunk of a Gemini answer."""

    candidates: list[GeminiCandidate]
    usage_metadata: GeminiCounts | None = None
    model_version: str | None = None
    prompt_feedback: None = None
    error: None = None


_CHAT = msgspec.json.Decoder(ChatChunk)
_GEMINI = msgspec.json.Decoder(GeminiChunk)


def plain_chat_chunk(data: bytes) -> ChatChunk | None:
    """Return a chunk that says nothing but a model, a service tier and content; None for any other."""
    return _read(_CHAT, data)


def plain_gemini_chunk(data: bytes) -> GeminiChunk | None:
    """Return a chunk that says nothing but a model, counts and content; None for any other."""
    # Of metadata that stand twice both count.
    return _read(_GEMINI, data) if data.count(b'"usageMetadata"') < 2 else None


def _read[T](decoder: msgspec.json.Decoder[T], data: bytes) -> T | None:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
