"""Readers of usage: what all providers' answers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from sluicegate.values import Usage


class UsageReader(ABC):
    """A reader of an answer's usage, event by event or whole. Invalid input never raises."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finished = False
        """Whether the answer has been marked as complete."""
        self.message_started = False
        self.delivered_bytes = 0
        """Bytes of text, thinking and tool input that have passed."""
        self.error: str | None = None
        """The type of an error event inside the answer."""

    @abstractmethod
    def feed_event(self, event: str, data: bytes) -> None:
        """Read one server-sent event."""

    @abstractmethod
    def read_json(self, body: bytes) -> None:
        """Read a whole answer that was not streamed."""


def parse_count(value: Any) -> int | None:
    """Return a count that a provider reported; None if the value is not a valid count."""
    # True is an int in Python, but not a count.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40:
        return value
    return None
