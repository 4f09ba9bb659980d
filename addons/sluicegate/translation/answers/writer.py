"""What every writer of answers has in common: who asked for what, and an answer gathered into its parts."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sluicegate.translation.context import AnswerContext
from sluicegate.translation.conversation import Dialect, Opaque
from sluicegate.translation.events import (
    Event,
    Failed,
    Finished,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingOpaque,
    TokenUsage,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from sluicegate.translation.opaque import pack


@dataclass(frozen=True, slots=True)
class Setting:
    """What a writer must know beside the events."""

    context: AnswerContext
    answer_id: str
    """A text that no other answer has; ids are made of it, so they are as unique."""
    created_s: int
    """When the answer began, seconds since 1970."""

    @property
    def unique(self) -> str:
        """Return the answer's id without characters that an id may not have."""
        return re.sub(r"[^A-Za-z0-9]", "", self.answer_id)


@dataclass(slots=True)
class TextPart:
    """Text, or the words of a refusal."""

    text: str
    is_refusal: bool = False


@dataclass(slots=True)
class ThinkingPart:
    """One piece of thinking; ``opaque`` alone where nothing of it can be read."""

    text: str = ""
    opaque: Opaque | None = None


@dataclass(slots=True)
class CallPart:
    """One call with all its arguments."""

    call: ToolCallStarted
    arguments: str = ""


type Part = TextPart | ThinkingPart | CallPart


@dataclass(slots=True)
class Answer:
    """A whole answer."""

    started: Started = field(default_factory=Started)
    parts: list[Part] = field(default_factory=list)
    ending: Finished | Failed = field(default_factory=lambda: Finished("stop"))

    @property
    def usage(self) -> TokenUsage:
        """Return what the answer used; zeros where nobody said."""
        usage = self.ending.usage if isinstance(self.ending, Finished) else None
        return usage or self.started.usage or TokenUsage()


class AnswerWriter(ABC):
    """Write one answer for a client. Events come in the grammar's order."""

    content_type: str
    """The content type of the stream."""

    @abstractmethod
    def write(self, event: Event) -> bytes:
        """Return what an event adds to the stream."""

    def ping(self) -> bytes:
        """Return what keeps the connection alive and says nothing."""
        return b": keep-alive\n\n"

    @abstractmethod
    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the body of an answer that has not failed."""


def gather(events: Iterable[Event]) -> Answer:
    """Return an answer's events as its parts."""
    answer = Answer()
    for event in events:
        if isinstance(event, Started):
            answer.started = event
        elif isinstance(event, Finished | Failed):
            answer.ending = event
        else:
            add_event(answer.parts, event)
    return answer


def add_event(parts: list[Part], event: Event) -> None:
    """Add what an event says to the last part, or begin another."""
    last = parts[-1] if parts else None
    if isinstance(event, TextDelta | RefusalDelta):
        is_refusal = isinstance(event, RefusalDelta)
        if isinstance(last, TextPart) and last.is_refusal == is_refusal:
            last.text += event.text
        else:
            parts.append(TextPart(event.text, is_refusal))
    elif isinstance(event, ThinkingDelta):
        if isinstance(last, ThinkingPart) and last.opaque is None:
            last.text += event.text
        else:
            parts.append(ThinkingPart(event.text))
    elif isinstance(event, ThinkingOpaque):
        if isinstance(last, ThinkingPart) and last.opaque is None and not event.opaque.redacted:
            last.opaque = event.opaque
        else:
            parts.append(ThinkingPart("", event.opaque))
    elif isinstance(event, ToolCallStarted):
        parts.append(CallPart(event))
    elif isinstance(event, ToolArgumentsDelta) and isinstance(last, CallPart):
        last.arguments += event.text


def kept_by(client: Dialect, opaque: Opaque) -> str:
    """Return the text as which a client of this dialect keeps what only its maker can read."""
    return opaque.data if opaque.origin == client else pack(opaque)
