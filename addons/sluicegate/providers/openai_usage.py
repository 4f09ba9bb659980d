"""Read the usage of OpenAI's answers: chat completions and responses, streamed or whole."""

from __future__ import annotations

from typing import Any

import orjson

from sluicegate.providers.usage_reader import UsageReader, parse_count
from sluicegate.values import Usage


class OpenAIUsage(UsageReader):
    """Usage of one answer: OpenAI counts cached tokens as part of the input, we keep them apart."""

    def feed_event(self, event: str, data: bytes) -> None:
        """Read one server-sent event."""
        if data == b"[DONE]":
            self.finished = True
            self.is_final = self.usage is not None
            return
        if b'"usage"' in data:
            self.read_json(data)
        if b'"delta"' in data:
            self.defer(data)
        if event in ("response.completed", "response.incomplete"):
            self.finished = True
            self.is_final = self.usage is not None
        elif event in ("error", "response.failed"):
            self.error = event

    def read_json(self, body: bytes) -> None:
        """Read an answer, or the event that carries one."""
        try:
            value: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            return
        if isinstance(value, dict) and isinstance(value.get("response"), dict):
            value = value["response"]
        usage = value.get("usage") if isinstance(value, dict) else None
        if not isinstance(usage, dict):
            return
        prompt = parse_count(usage.get("input_tokens", usage.get("prompt_tokens")))
        output = parse_count(usage.get("output_tokens", usage.get("completion_tokens", 0)))
        if prompt is None or output is None:
            # An invalid count is not zero: without usage the call is charged its estimate.
            self.usage, self.is_invalid = None, True
            return
        details = usage.get("input_tokens_details") or usage.get("prompt_tokens_details")
        cached = min(prompt, (parse_count(details.get("cached_tokens")) or 0) if isinstance(details, dict) else 0)
        model, tier = value.get("model"), value.get("service_tier")
        self.usage = Usage(
            input_tokens=prompt - cached,
            output_tokens=output,
            cache_read_tokens=cached,
            model=model if isinstance(model, str) else None,
            service_tier=tier if isinstance(tier, str) else None,
        )
        # A streamed chat chunk with usage may be followed by more; a plain answer and a Responses object are whole.
        if "choices" not in value or value.get("object") == "chat.completion":
            self.finished = self.is_final = True

    def measure(self, event: Any) -> None:
        """Add the text of a chunk of Chat or of an event of Responses."""
        if not isinstance(event, dict):
            return
        self.deliver(event.get("delta"))
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            delta = choice.get("delta") if isinstance(choice, dict) else None
            self.deliver(delta.get("content") if isinstance(delta, dict) else None)
