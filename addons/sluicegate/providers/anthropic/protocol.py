"""Anthropic's API: carry the key, write errors."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from sluicegate.providers import endpoint_table
from sluicegate.providers.answers.usage_reader import UsageReader
from sluicegate.providers.anthropic.answer import MessagesUsage
from sluicegate.providers.anthropic.request import read_request
from sluicegate.values import RequestFacts


class Anthropic:
    """The API of api.anthropic.com."""

    name = "anthropic"
    base_url = "https://api.anthropic.com"
    hosts = frozenset({"api.anthropic.com"})
    endpoints = endpoint_table.ANTHROPIC

    def read_request(self, body: bytes, path: str) -> RequestFacts | str:
        """Read the facts of a Messages body."""
        return read_request(body)

    def usage_reader(self) -> UsageReader:
        """Return a reader for one answer."""
        return MessagesUsage()

    def auth_headers(self, key: str) -> Iterable[tuple[str, str]]:
        """Return the header for this kind of key: API keys and OAuth tokens use different ones."""
        return [("authorization", f"Bearer {key}")] if key.startswith("sk-ant-oat") else [("x-api-key", key)]

    def error_body(self, family: str, message: str, status: int) -> bytes:
        """Return an error body in Anthropic's form."""
        return orjson.dumps({"type": "error", "error": {"type": family, "message": message}})
