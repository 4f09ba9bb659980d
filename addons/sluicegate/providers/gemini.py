"""Google's Gemini API: the model stands in the path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

from sluicegate.providers.base import UsageReader, clean_path, hides_words, media, number
from sluicegate.values import Kind, RequestFacts, Usage

_MODEL = re.compile(r"/models/([A-Za-z0-9._-]{1,200}):([A-Za-z]+)$")


class GeminiUsage(UsageReader):
    """Usage of one answer: every piece repeats the counts so far."""

    def feed_event(self, event: str, data: bytes) -> None:
        """Take note of one piece."""
        self.read_json(data)

    def read_json(self, body: bytes) -> None:
        """Read an answer, a piece of one, or a list of pieces."""
        try:
            value: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            return
        for piece in value if isinstance(value, list) else [value]:
            if not isinstance(piece, dict):
                continue
            counts = piece.get("usageMetadata")
            if isinstance(counts, dict):
                self.usage = _usage(counts, piece.get("modelVersion"))
            candidates = piece.get("candidates")
            if isinstance(candidates, list):
                self.finished = self.finished or any(isinstance(c, dict) and c.get("finishReason") for c in candidates)


def _usage(counts: dict[str, Any], model: Any) -> Usage | None:
    """Counts as Usage; None where they are no counts, so that the call is charged its estimate."""
    prompt = number(counts.get("promptTokenCount"))
    cached, answer, thoughts = (
        number(counts.get(n, 0)) for n in ("cachedContentTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    )
    if prompt is None or cached is None or answer is None or thoughts is None:
        return None
    cached = min(prompt, cached)
    return Usage(prompt - cached, answer + thoughts, cached, model=model if isinstance(model, str) else None)


class Gemini:
    """The wire of generativelanguage.googleapis.com."""

    name = "gemini"
    base_url = "https://generativelanguage.googleapis.com"
    hosts = frozenset({"generativelanguage.googleapis.com"})

    def kind_of(self, method: str, path: str) -> Kind:
        """Whatever might run a model is ``messages``."""
        if method in ("GET", "HEAD", "OPTIONS", "DELETE"):
            return "other"
        return "count_tokens" if clean_path(path).endswith(":counttokens") else "messages"

    def is_batch_create(self, method: str, path: str) -> bool:
        """Batches run many calls under one request."""
        return "batch" in clean_path(path).rpartition(":")[2]

    def read_request(self, body: bytes, path: str) -> RequestFacts | str:
        """The model and way of answering are in the path, the cap in ``generationConfig``."""
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
        images, payload = media(body)
        return RequestFacts(
            model=found[1],
            stream=found[2].lower().startswith("stream"),
            max_tokens=number(config.get("maxOutputTokens")) if isinstance(config, dict) else None,
            body_bytes=len(body),
            text_bytes=len(body) - payload,
            images=images,
            adds_input=any(
                x in body for x in (b"fileData", b"file_data", b"googleSearch", b"google_search", b"cachedContent", b"urlContext")
            )
            or hides_words(body),
        )

    def usage_reader(self) -> UsageReader:
        """A reader for one answer."""
        return GeminiUsage()

    def credentials(self, key: str) -> Iterable[tuple[str, str]]:
        """Google's own header."""
        return [("x-goog-api-key", key)]

    def envelope(self, family: str, message: str, status: int) -> bytes:
        """Google's error body."""
        return orjson.dumps({"error": {"code": status, "message": message, "status": family.upper()}})
