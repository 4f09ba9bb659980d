"""Usage in each dialect: what counts as input, what is beside it, and under which names.

Anthropic counts cached input beside the rest, OpenAI and Gemini inside it; Gemini counts thoughts beside the answer, the others
inside. Which of several reports stands, and whose copies of OpenAI's form count otherwise, metering already knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sluicegate.providers.answers.usage_reader import ToolRequests, parse_count
from sluicegate.providers.anthropic.usage import merge
from sluicegate.providers.gemini.usage import TokenCounts as GeminiCounts
from sluicegate.providers.openai.usage import TokenCounts as OpenAICounts
from sluicegate.translation.events import TokenUsage
from sluicegate.values import Usage

_NO_TOOLS = ToolRequests()
_DIGITS = re.compile(r"\d{1,12}\Z")


class MessagesUsage:
    """The usage of one Messages answer, by all reports that were seen."""

    def __init__(self) -> None:
        self._reports: list[dict[str, Any]] = []

    def report(self, usage: object) -> None:
        """Note one usage object; anything else says nothing."""
        if isinstance(usage, dict):
            # What was merged is a report too, so that a stream of reports stays as small as one.
            self._reports = [merge([*self._reports, _with_numbers(usage)])]

    def total(self) -> TokenUsage | None:
        """Return what was used so far; None if nothing has been said of it."""
        if not self._reports:
            return None
        fields = self._reports[0]
        plain, read, written, output = (
            parse_count(fields.get(name)) or 0
            for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
        )
        split, details = fields.get("cache_creation"), fields.get("output_tokens_details")
        hour = parse_count(split.get("ephemeral_1h_input_tokens")) if isinstance(split, dict) else None
        thinking = parse_count(details.get("thinking_tokens")) if isinstance(details, dict) else None
        return TokenUsage(plain + read + written, read, written, output, min(thinking or 0, output), min(hour or 0, written))


class _ReportedUsage[Counts: (OpenAICounts, GeminiCounts)]:
    """The usage of one answer, by all reports that were seen, as the meter adds them up."""

    def __init__(self, counts: Counts) -> None:
        self._counts: Counts = counts
        self._was_reported = False

    def report(self, usage: object) -> None:
        """Note one object of usage; anything else says nothing."""
        if isinstance(usage, dict):
            self._counts.report(_with_numbers(usage))
            self._was_reported = True

    def total(self) -> TokenUsage | None:
        """Return what was used so far; None where no usage was reported."""
        return self._sum() if self._was_reported else None

    def _sum(self) -> TokenUsage:
        raise NotImplementedError


class OpenAIUsage(_ReportedUsage[OpenAICounts]):
    """The usage of one answer in either of OpenAI's dialects."""

    def __init__(self) -> None:
        super().__init__(OpenAICounts())

    def _sum(self) -> TokenUsage:
        return _total(self._counts.usage(None, None, _NO_TOOLS), self._counts["reasoning"])


class GeminiUsage(_ReportedUsage[GeminiCounts]):
    """The usage of one Gemini answer."""

    def __init__(self) -> None:
        super().__init__(GeminiCounts())

    def _sum(self) -> TokenUsage:
        return _total(self._counts.usage(None, _NO_TOOLS), self._counts["thoughts"])


def _total(usage: Usage, reasoning: int) -> TokenUsage:
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    output = usage.output_tokens
    return TokenUsage(usage.prompt_tokens, usage.cache_read_tokens, written, output, min(reasoning, output))


def _with_numbers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a usage object whose numbers are numbers, also where a server wrote them as text."""
    numbers: dict[str, Any] = {}
    for name, value in fields.items():
        if (isinstance(value, str) and _DIGITS.match(value)) or (isinstance(value, float) and value.is_integer()):
            numbers[name] = int(value)
        else:
            numbers[name] = _with_numbers(value) if isinstance(value, dict) else value
    return numbers


def write_messages_usage(usage: TokenUsage) -> dict[str, Any]:
    """Return Anthropic's usage object: cached input apart from ``input_tokens``."""
    written: dict[str, Any] = {
        "input_tokens": max(0, usage.input - usage.cache_read - usage.cache_write),
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output,
    }
    if usage.cache_write:
        short = usage.cache_write - usage.cache_write_1h
        written["cache_creation"] = {
            "ephemeral_5m_input_tokens": short,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    if usage.reasoning:
        written["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return written


def write_chat_usage(usage: TokenUsage) -> dict[str, Any]:
    """Return the usage object of Chat Completions: cached input is part of ``prompt_tokens``."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0, **_cache_writes(usage)},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    }


def write_responses_usage(usage: TokenUsage) -> dict[str, Any]:
    """Return the usage object of Responses."""
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def _cache_writes(usage: TokenUsage) -> dict[str, int]:
    return {"cache_write_tokens": usage.cache_write} if usage.cache_write else {}


def write_gemini_usage(usage: TokenUsage) -> dict[str, Any]:
    """Return Gemini's usage metadata: thoughts are beside the answer's tokens."""
    written = {"promptTokenCount": usage.input, "candidatesTokenCount": usage.output - usage.reasoning}
    if usage.cache_read:
        written["cachedContentTokenCount"] = usage.cache_read
    if usage.reasoning:
        written["thoughtsTokenCount"] = usage.reasoning
    return written | {"totalTokenCount": usage.input + usage.output}
