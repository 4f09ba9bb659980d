"""Read the usage of Gemini's answers, streamed or whole."""

from __future__ import annotations

from typing import Any

import orjson

from sluicegate.providers.usage_reader import UsageReader, parse_count
from sluicegate.values import Usage


class GeminiUsage(UsageReader):
    """Usage of one answer: every chunk repeats the counts so far."""

    def feed_event(self, event: str, data: bytes) -> None:
        """Read one chunk of a streamed answer."""
        self.read_json(data)
        self.defer(data)

    def read_json(self, body: bytes) -> None:
        """Read an answer, a chunk of one, or a list of chunks."""
        try:
            value: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            return
        for chunk in value if isinstance(value, list) else [value]:
            if not isinstance(chunk, dict):
                continue
            counts = chunk.get("usageMetadata")
            if isinstance(counts, dict):
                self.usage = _read_usage(counts, chunk.get("modelVersion"))
                self.is_invalid = self.usage is None
            candidates = chunk.get("candidates")
            if isinstance(candidates, list):
                self.finished = self.finished or any(isinstance(c, dict) and c.get("finishReason") for c in candidates)
        self.is_final = self.finished and self.usage is not None

    def measure(self, event: Any) -> None:
        """Add the text of a chunk's parts."""
        candidates = event.get("candidates") if isinstance(event, dict) else None
        for candidate in candidates if isinstance(candidates, list) else ():
            content = candidate.get("content") if isinstance(candidate, dict) else None
            parts = content.get("parts") if isinstance(content, dict) else None
            for part in parts if isinstance(parts, list) else ():
                self.deliver(part.get("text") if isinstance(part, dict) else None)


def _read_usage(counts: dict[str, Any], model: Any) -> Usage | None:
    """Return the counts as Usage; None if one is invalid, so that the call is charged its estimate."""
    prompt = parse_count(counts.get("promptTokenCount"))
    cached, answer, thoughts = (
        parse_count(counts.get(n, 0)) for n in ("cachedContentTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    )
    if prompt is None or cached is None or answer is None or thoughts is None:
        return None
    cached = min(prompt, cached)
    return Usage(prompt - cached, answer + thoughts, cached, model=model if isinstance(model, str) else None)
