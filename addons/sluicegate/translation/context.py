"""What a translated request leaves behind: the target's request, and what the answer's translation must know of the client's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sluicegate.translation.conversation import Request
from sluicegate.translation.names import ToolNames


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """What a client's request says about the form of its answer."""

    request: Request
    """The call in neutral words; its ``model`` is the one the client named."""
    target_model: str
    names: ToolNames
    """Turns the names of tools in the answer back into the client's; ``original(...).kind`` is ``custom`` for a tool whose call
    the target makes with the JSON arguments ``{"input": TEXT}`` and the client expects as free text."""
    stream: Literal["", "sse", "json"] = ""
    """Not streamed, as events, or as Gemini's JSON list of chunks."""
    stop: tuple[str, ...] = ()
    """Stop sequences that the target does not take: the answer's text ends before the first of them."""
    body: Mapping[str, Any] | None = None
    """The client's body as parsed; a Responses answer repeats fields of it. Not to be changed."""


@dataclass(frozen=True, slots=True)
class TranslatedRequest:
    """A request in the target's dialect: ``path`` with its query, the whole ``body``, and the headers the dialect needs."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...]
    context: AnswerContext
