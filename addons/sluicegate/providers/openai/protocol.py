"""OpenAI's APIs, as Codex and Qwen Code use them: carry the key, write errors."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from sluicegate.providers import endpoint_table
from sluicegate.providers.answers.usage_reader import UsageReader
from sluicegate.providers.openai.answer import OpenAIUsage
from sluicegate.providers.openai.request import read_request
from sluicegate.values import RequestFacts


class OpenAI:
    """The API of api.openai.com."""

    name = "openai"
    base_url = "https://api.openai.com"
    hosts = frozenset({"api.openai.com"})
    endpoints = endpoint_table.OPENAI

    def read_request(self, body: bytes, path: str) -> RequestFacts | str:
        """Read the facts of a chat or responses body."""
        return read_request(body, path)

    def usage_reader(self) -> UsageReader:
        """Return a reader for one answer."""
        return OpenAIUsage()

    def auth_headers(self, key: str) -> Iterable[tuple[str, str]]:
        """Return the key as a bearer token."""
        return [("authorization", f"Bearer {key}")]

    def error_body(self, family: str, message: str, status: int) -> bytes:
        """Return an error body in OpenAI's form."""
        return orjson.dumps({"error": {"type": family, "code": family, "message": message, "param": None}})
