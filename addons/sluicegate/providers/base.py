"""What the gateway must know of a provider's API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from sluicegate.providers.answers.usage_reader import UsageReader
from sluicegate.providers.endpoints import Endpoints
from sluicegate.values import RequestFacts


class ProviderAdapter(Protocol):
    """One provider's API: which requests it has, how to read one and its answer, and write what the client expects."""

    name: str
    base_url: str
    hosts: frozenset[str]
    endpoints: Endpoints
    """Which requests may travel on its key."""

    def read_request(self, body: bytes, path: str) -> RequestFacts | str:
        """Return the facts of a model call's body, or a sentence that says why it is not one."""

    def usage_reader(self) -> UsageReader:
        """Return a reader for one answer."""

    def auth_headers(self, key: str) -> Iterable[tuple[str, str]]:
        """Return the headers that carry the provider key."""

    def error_body(self, family: str, message: str, status: int) -> bytes:
        """Return an error body as this provider would write it."""
