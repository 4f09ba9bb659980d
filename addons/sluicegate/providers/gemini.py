"""Google's Gemini API: the model is named in the path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

from sluicegate.providers.base import UsageReader, clean_path, find_base64, has_escaped_letters, parse_count
from sluicegate.values import Kind, RequestFacts, Usage

_MODEL = re.compile(r"/models/([A-Za-z0-9._-]{1,200}):([A-Za-z]+)$")
_INPUT_SOURCES = (b"fileData", b"file_data", b"googleSearch", b"google_search", b"cachedContent", b"urlContext")
"""Fields that add input which is not in the body."""


class GeminiUsage(UsageReader):
    """Usage of one answer: every chunk repeats the counts so far."""

    def feed_event(self, event: str, data: bytes) -> None:
        """Read one chunk of a streamed answer."""
        self.read_json(data)

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
            candidates = chunk.get("candidates")
            if isinstance(candidates, list):
                self.finished = self.finished or any(isinstance(c, dict) and c.get("finishReason") for c in candidates)


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


class Gemini:
    """The API of generativelanguage.googleapis.com."""

    name = "gemini"
    base_url = "https://generativelanguage.googleapis.com"
    hosts = frozenset({"generativelanguage.googleapis.com"})

    def classify(self, method: str, path: str) -> Kind:
        """Return ``messages`` for whatever might run a model."""
        if method in ("GET", "HEAD", "OPTIONS", "DELETE"):
            return "other"
        return "count_tokens" if clean_path(path).endswith(":counttokens") else "messages"

    def creates_batch(self, method: str, path: str) -> bool:
        """Return whether the request starts a batch: many calls under one request."""
        return "batch" in clean_path(path).rpartition(":")[2]

    def read_request(self, body: bytes, path: str) -> RequestFacts | str:
        """Read model and streaming from the path, the output cap from ``generationConfig``."""
        found = _MODEL.search(path.partition("?")[0])
        if found is None:
            return "the path of a model call ends in /models/NAME:METHOD"
        try:
            value: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            return "the body of a model call is a JSON object"
        if not isinstance(value, dict):
            return "the body of a model call is a JSON object"
        config = value.get("generationConfig")
        images, payload_bytes = find_base64(body)
        return RequestFacts(
            model=found[1],
            stream=found[2].lower().startswith("stream"),
            max_tokens=parse_count(config.get("maxOutputTokens")) if isinstance(config, dict) else None,
            body_bytes=len(body),
            text_bytes=len(body) - payload_bytes,
            images=images,
            adds_input=any(field in body for field in _INPUT_SOURCES) or has_escaped_letters(body),
        )

    def usage_reader(self) -> UsageReader:
        """Return a reader for one answer."""
        return GeminiUsage()

    def auth_headers(self, key: str) -> Iterable[tuple[str, str]]:
        """Return the key in Google's own header."""
        return [("x-goog-api-key", key)]

    def error_body(self, family: str, message: str, status: int) -> bytes:
        """Return an error body in Google's form."""
        return orjson.dumps({"error": {"code": status, "message": message, "status": family.upper()}})
