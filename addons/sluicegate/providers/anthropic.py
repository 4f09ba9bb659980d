"""Anthropic's API: recognise calls, carry the key, write errors."""

from __future__ import annotations

import re
from collections.abc import Iterable

import orjson

from sluicegate.providers.anthropic_answer import MessagesUsage
from sluicegate.providers.anthropic_request import read_request
from sluicegate.providers.base import clean_path, find_unmetered
from sluicegate.providers.usage_reader import UsageReader
from sluicegate.values import Kind, RequestFacts

UNMETERED = (
    (re.compile(r"/messages/batches(/|$)"), "Message batches"),
    (re.compile(r"^/v1/(agents|sessions|deployments|dreams|environments|threads)(/|$)"), "Managed agents"),
)
"""What runs models outside single calls, as of anthropic 2.14.0 (2026-11)."""


class Anthropic:
    """The API of api.anthropic.com."""

    name = "anthropic"
    base_url = "https://api.anthropic.com"
    hosts = frozenset({"api.anthropic.com"})

    def classify(self, method: str, path: str) -> Kind:
        """Return the kind of a request; whatever might run a model is ``messages``."""
        clean = clean_path(path)
        if clean.endswith("/messages/count_tokens"):
            if method != "POST":
                return "other"
            # Free only as the documentation writes it: an odd spelling of the path might be read differently upstream.
            return "count_tokens" if path.partition("?")[0] == clean else "messages"
        # Whatever the method: an unexpected one is refused for its body, not let through as free.
        runs_a_model = clean.endswith(("/messages", "/complete", "/completions", "/responses"))
        return "messages" if runs_a_model and not clean.startswith("/api/") else "other"

    def unmetered(self, method: str, path: str) -> str | None:
        """Return what a request asks for, in words, if models would work for it in a way that cannot be metered."""
        return find_unmetered(UNMETERED, method, path)

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
