"""An answer in no provider's words: the events that every answer is read into, and every client's stream or body is written from.

A whole answer is read into the same events as a stream. ``answers.grammar`` puts what a reader makes in this order:
``Started``, any number of deltas and tool calls, then one ``Finished`` or ``Failed``, and nothing after it. Between a
call's start and its end stand its arguments alone, which are a JSON object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sluicegate.translation.conversation import Opaque, ToolKind


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one answer. ``input`` includes what was read from and written to the cache, ``output`` includes ``reasoning``."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    cache_write_1h: int = 0
    """The part of ``cache_write`` that is kept for an hour."""


type FinishReason = Literal["stop", "stop_sequence", "length", "tool_calls", "content_filter", "refusal", "pause", "context_window"]
"""Why a model stopped.

``content_filter`` is the provider's, ``refusal`` the model's own; ``pause`` asks the client to send the conversation again.
"""

type ErrorFamily = Literal[
    "invalid_request",
    "context_length",
    "authentication",
    "billing",
    "permission",
    "not_found",
    "too_large",
    "rate_limit",
    "quota",
    "overloaded",
    "timeout",
    "server",
]
"""What kind of error a provider reports; ``context_length`` is a prompt too long for the model, ``quota`` a limit on money."""


@dataclass(frozen=True, slots=True)
class Started:
    """The answer has begun; ``usage`` is what is known of the input by then, ``id`` the provider's own."""

    id: str = ""
    model: str = ""
    usage: TokenUsage | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """More of the words with which the model refuses."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """More of what the model thinks, or of the summary of it."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingOpaque:
    """What only its maker can read of the thinking before it. It ends that thinking; with none before, it stands alone."""

    opaque: Opaque


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """A call of one of the client's tools begins; ``index`` counts the calls of an answer from zero."""

    index: int
    id: str
    name: str
    kind: ToolKind = "function"
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class ToolArgumentsDelta:
    """More of a call's arguments: of a JSON object's text, for a custom tool as well (``{"input": TEXT}``)."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallEnded:
    """A call's arguments are complete, or no more of them come."""

    index: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete, or as complete as it gets."""

    reason: FinishReason
    stop_sequence: str | None = None
    usage: TokenUsage | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer has failed; ``status`` is the HTTP status that the provider gave, or would have."""

    status: int
    family: ErrorFamily
    message: str


type Event = (
    Started
    | TextDelta
    | RefusalDelta
    | ThinkingDelta
    | ThinkingOpaque
    | ToolCallStarted
    | ToolArgumentsDelta
    | ToolCallEnded
    | Finished
    | Failed
)
