"""Google's Gemini API, in which the path names the model: recognise calls, carry the key, write errors."""

from __future__ import annotations

import re
from collections.abc import Iterable

import orjson

from sluicegate.providers.base import clean_path, find_unmetered
from sluicegate.providers.gemini_answer import GeminiUsage
from sluicegate.providers.gemini_request import read_request
from sluicegate.providers.usage_reader import UsageReader
from sluicegate.values import Kind, RequestFacts

UNMETERED = (
    (re.compile(r":[^/:]*batch[^/:]*$"), "Message batches"),
    (re.compile(r":(predictlongrunning|bidi[a-z]*)$"), "Live sessions and jobs that run later"),
    (re.compile(r"/(interactions|auth_?tokens|tunedmodels)(/|$)"), "Interactions, tuning and tokens of their own"),
)
"""What runs models outside single calls, as of google-genai 3.6.1 (2026-11)."""


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

    def unmetered(self, method: str, path: str) -> str | None:
        """Return what a request asks for, in words, if models would work for it in a way that cannot be metered."""
        return find_unmetered(UNMETERED, method, path)

    def read_request(self, body: bytes, path: str) -> RequestFacts | str:
        """Read model and streaming from the path, the output cap from ``generationConfig``."""
        return read_request(body, path)

    def usage_reader(self) -> UsageReader:
        """Return a reader for one answer."""
        return GeminiUsage()

    def auth_headers(self, key: str) -> Iterable[tuple[str, str]]:
        """Return the key in Google's own header."""
        return [("x-goog-api-key", key)]

    def error_body(self, family: str, message: str, status: int) -> bytes:
        """Return an error body in Google's form."""
        return orjson.dumps({"error": {"code": status, "message": message, "status": family.upper()}})
