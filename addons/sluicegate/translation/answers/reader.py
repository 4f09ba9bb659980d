"""What every reader of answers has in common, and how it reads JSON that a provider may have written in any way."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from sluicegate.translation.answers.errors import read_error
from sluicegate.translation.events import Event, Failed

CUT_SHORT = "The provider's answer ended before it was complete."

_DIGITS = re.compile(r"\d{1,6}\Z")


class AnswerReader(ABC):
    """Read one answer of a dialect into events. Nothing in an answer makes it raise: what it does not know it leaves out."""

    body_names: tuple[str, ...]
    """The fields one of which every whole answer has; anything else is an error, whatever its status."""

    @abstractmethod
    def read(self, name: str, value: dict[str, Any]) -> Iterable[Event]:
        """Return what one object of a stream says; ``name`` is its event's, empty where it has none."""

    @abstractmethod
    def whole(self, value: dict[str, Any]) -> Iterable[Event]:
        """Return what an answer that is not streamed says, its end included."""

    def done(self) -> Iterable[Event]:
        """Return what OpenAI's ``[DONE]`` says."""
        return ()

    def end(self) -> Iterable[Event]:
        """Return the end of a stream whose connection has ended; too early, unless the subclass knows better."""
        return [Failed(502, "server", CUT_SHORT)]


def failed(value: Any, status: int = 0) -> Failed:
    """Return the failure that an error object in a stream reports; ``status`` where nothing in it says which."""
    error = read_error(status, value)
    return Failed(error.status, error.family, error.message)


def text_of(value: Any) -> str:
    """Return a text; empty for anything else."""
    return value if isinstance(value, str) else ""


def dict_of(value: Any) -> dict[str, Any]:
    """Return an object; empty for anything else."""
    return value if isinstance(value, dict) else {}


def dicts_in(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list; none of anything else."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def index_of(value: Any) -> int | None:
    """Return an index, also one that was written as text; None for anything else."""
    if isinstance(value, str) and _DIGITS.match(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
