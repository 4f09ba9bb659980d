"""What a provider key is that no header simply carries: an account that signs each request, or fetches a short-lived token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A request as it is about to leave: its URL and body to the byte."""

    method: str
    url: str
    """With scheme, host, path and query as they are sent."""
    body: bytes


class CannotSignError(Exception):
    """An account without credentials that can be used: the message says what is missing and how to mend it, never a value."""


class Account(Protocol):
    """An account at a cloud provider. It can be compared and hashed, and shows no secret in its repr."""

    @property
    def secrets(self) -> Iterable[str]:
        """Return the values that no request of a client may hold and no record may show."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the environment variables that hold its credentials, which no agent may inherit."""

    async def headers(self, request: OutgoingRequest) -> Iterable[tuple[str, str]]:
        """Return the headers that prove a request to be the account's. Raises CannotSignError.

        Whatever takes time, such as fetching credentials, happens in a thread, once, and before they expire.
        """
