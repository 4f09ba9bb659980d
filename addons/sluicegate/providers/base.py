"""What the gateway must know of a provider's API."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote

from sluicegate.providers.usage_reader import UsageReader
from sluicegate.values import Kind, RequestFacts


class ProviderAdapter(Protocol):
    """One provider's API: how to recognise a request, read it and its answer, and write what the client expects."""

    name: str
    base_url: str
    hosts: frozenset[str]

    def classify(self, method: str, path: str) -> Kind:
        """Return what a request is. Anything an upstream might take for a model call is one."""

    def unmetered(self, method: str, path: str) -> str | None:
        """Return what a request asks for, in words, if models would work for it in a way that cannot be metered."""

    def read_request(self, body: bytes, path: str) -> RequestFacts | str:
        """Return the facts of a model call's body, or a sentence that says why it is not one."""

    def usage_reader(self) -> UsageReader:
        """Return a reader for one answer."""

    def auth_headers(self, key: str) -> Iterable[tuple[str, str]]:
        """Return the headers that carry the provider key."""

    def error_body(self, family: str, message: str, status: int) -> bytes:
        """Return an error body as this provider would write it."""


UnmeteredTable = tuple[tuple[re.Pattern[str], str], ...]
"""What of an API cannot be metered: patterns of clean paths, each with words for what is asked for."""


def find_unmetered(table: UnmeteredTable, method: str, path: str) -> str | None:
    """Return the words of the first row that fits a request; reading and deleting start nothing."""
    if method in ("GET", "HEAD", "OPTIONS", "DELETE"):
        return None
    clean = clean_path(path)
    # Long paths are not cached: a caller who varies them could fill the cache with megabytes.
    return _words_for(table, clean) if len(clean) <= 200 else _words_for.__wrapped__(table, clean)


@lru_cache(maxsize=1024)
def _words_for(table: UnmeteredTable, clean: str) -> str | None:
    return next((words for pattern, words in table if pattern.search(clean)), None)


def clean_path(path: str) -> str:
    """Return a path as the most lenient upstream might read it.

    Decoded, in lower case, without dot segments, doubled slashes, parameters and query.
    """
    text = path.partition("?")[0].partition("#")[0]
    # Long paths are not cached: a caller who varies them could fill the cache with megabytes.
    return _normalized(text) if len(text) <= 200 else _normalized.__wrapped__(text)


@lru_cache(maxsize=1024)
def _normalized(text: str) -> str:
    # Doubly and triply encoded paths exist in the wild; deeper ones are attempts to confuse.
    for _ in range(3):
        decoded = unquote(text)
        if decoded == text:
            break
        text = decoded
    parts: list[str] = []
    for part in re.split(r"[/\\]", text.lower()):
        # Some servers cut path parameters ("/v1/files;x=1") before they route.
        part = part.partition(";")[0].strip()
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
