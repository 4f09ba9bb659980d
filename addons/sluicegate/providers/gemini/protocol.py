"""Google's Gemini API, in which the path names the model: carry the key, write errors."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from sluicegate.providers import endpoint_table
from sluicegate.providers.answers.usage_reader import UsageReader
from sluicegate.providers.gemini.answer import GeminiUsage
from sluicegate.providers.gemini.request import read_request
from sluicegate.values import RequestFacts


class Gemini:
    """The API of generativelanguage.googleapis.com."""

    name = "gemini"
    base_url = "https://generativelanguage.googleapis.com"
    hosts = frozenset({"generativelanguage.googleapis.com"})
    endpoints = endpoint_table.GEMINI

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
