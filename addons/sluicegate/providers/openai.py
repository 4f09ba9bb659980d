"""OpenAI's APIs, as Codex and Qwen Code use them: recognise calls, carry the key, write errors."""

from __future__ import annotations

import re
from collections.abc import Iterable

import orjson

from sluicegate.providers.base import clean_path, find_unmetered
from sluicegate.providers.openai_answer import OpenAIUsage
from sluicegate.providers.openai_request import read_request
from sluicegate.providers.usage_reader import UsageReader
from sluicegate.values import Kind, RequestFacts

UNMETERED = (
    (re.compile(r"/batches(/|$)"), "Message batches"),
    (re.compile(r"/threads(/[^/]+)?/runs(/|$)"), "Runs of threads"),
    (re.compile(r"/(realtime|chatkit)(/|$)"), "Realtime sessions and their client secrets"),
    (re.compile(r"^/v1/(fine_tuning|evals|videos)(/|$)"), "Jobs that run later"),
)
"""What runs models outside single calls, as of openai 3.57.0 (2026-11)."""


class OpenAI:
    """The API of api.openai.com."""

    name = "openai"
    base_url = "https://api.openai.com"
    hosts = frozenset({"api.openai.com"})

    def classify(self, method: str, path: str) -> Kind:
        """Return ``messages`` for whatever might run a model: every POST but the few known to be free."""
        clean = clean_path(path)
        if method in ("GET", "HEAD", "OPTIONS", "DELETE"):
            return "other"
        if clean.endswith("/responses/input_tokens"):
            return "count_tokens"
        return "other" if clean.startswith(("/v1/files", "/v1/uploads")) else "messages"

    def unmetered(self, method: str, path: str) -> str | None:
        """Return what a request asks for, in words, if models would work for it in a way that cannot be metered."""
        return find_unmetered(UNMETERED, method, path)

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
