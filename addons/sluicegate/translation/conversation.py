"""One model call in no provider's words: what every request is read into, and every other dialect's request is written from.

A dialect is one API's wire form. There are four readers and four writers for requests, never one function per pair. All values are
frozen; texts are as the client wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

type Dialect = Literal["messages", "chat", "responses", "generate_content"]
"""Anthropic Messages, OpenAI Chat Completions, OpenAI Responses, Gemini generateContent."""

DIALECTS: tuple[Dialect, ...] = ("messages", "chat", "responses", "generate_content")

DIALECT_WORDS: Mapping[Dialect, str] = {
    "messages": "Anthropic's Messages API",
    "chat": "the Chat Completions API",
    "responses": "OpenAI's Responses API",
    "generate_content": "Gemini's generateContent API",
}
"""Each dialect's name in sentences for people."""


MAX_MESSAGE_CHARS = 400
"""Names and values of a client's can have any length; what a person reads about them is bounded."""


class Untranslatable(Exception):
    """A call that the target's dialect cannot say; ``message`` names the field and the API, and how to mend the request."""

    def __init__(self, message: str) -> None:
        line = " ".join(message.split()).encode("utf-8", "replace").decode()
        self.message = line if len(line) <= MAX_MESSAGE_CHARS else f"{line[: MAX_MESSAGE_CHARS - 1]}…"
        super().__init__(self.message)


type ToolKind = Literal["function", "custom"]
"""A custom tool takes one free text instead of JSON arguments."""

type CacheMark = Literal["", "5m", "1h"]
"""How long a prompt cache that ends at a part shall live, where the client asks for one there."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """What only the API that made it can read: signed thinking, encrypted reasoning, a thought signature.

    ``data`` is for ``messages`` the signature (or, if ``redacted``, the data of a redacted block), for ``responses`` the encrypted
    content, for ``generate_content`` the thought signature, and for ``chat`` either the name of the field in which the reasoning
    came as text (``reasoning_content``, ``reasoning``) or, as JSON, the list ``reasoning_details``.
    """

    origin: Dialect
    data: str
    redacted: bool = False
    text: str | None = None
    """The thinking that the data belongs to, where it must go back letter by letter; None where the client keeps it."""
    id: str = ""
    """The id of the item that held it, which OpenAI checks against its encrypted content."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text."""

    text: str
    cache: CacheMark = ""


@dataclass(frozen=True, slots=True)
class Image:
    """An image: base64 text of type ``media_type``, or the URL at which the provider finds it."""

    source: Literal["base64", "url"]
    data: str
    media_type: str = ""
    detail: str = ""
    """How closely to look, in OpenAI's words; empty for the default."""
    cache: CacheMark = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A file: base64 text of type ``media_type``, or the URL at which the provider finds it."""

    source: Literal["base64", "url"]
    data: str
    media_type: str = ""
    name: str = ""
    cache: CacheMark = ""


@dataclass(frozen=True, slots=True)
class Thinking:
    """What the model thought: a text, and what proves or hides it. In Gemini's dialect it belongs to the part after it."""

    text: str
    opaque: Opaque | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model's call of a tool; ``arguments`` is JSON text as given, or a custom tool's free text."""

    id: str
    name: str
    arguments: str
    kind: ToolKind = "function"
    namespace: str = ""
    cache: CacheMark = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned for the call ``call_id``; the tool's own fields are filled in by ``requests.pairing``."""

    call_id: str
    parts: tuple[Text | Image | Document, ...]
    is_error: bool = False
    name: str = ""
    namespace: str = ""
    kind: ToolKind = "function"
    cache: CacheMark = ""


type Part = Text | Image | Document | Thinking | ToolCall | ToolResult
type Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message; system messages may stand anywhere. Tool results are in user messages."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the client runs."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """JSON Schema of its arguments; empty for a custom tool."""
    strict: bool | None = None
    kind: ToolKind = "function"
    grammar: tuple[str, str] | None = None
    """Syntax (``lark``, ``regex``) and definition that a custom tool's input follows."""
    namespace: str = ""
    cache: CacheMark = ""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools the model may or must call; ``name`` belongs to mode ``tool``."""

    mode: Literal["auto", "none", "required", "tool"] = "auto"
    name: str = ""
    namespace: str = ""
    parallel: bool | None = None
    """Whether one answer may hold several calls; None leaves it to the provider."""


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The form of the answer's text."""

    kind: Literal["json_object", "json_schema"]
    schema: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    description: str = ""
    strict: bool | None = None


type Effort = Literal["minimal", "low", "medium", "high", "xhigh", "max"]


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much the model shall think; ``off`` means as little as it can. All fields unset: as the provider chooses."""

    effort: Effort | None = None
    budget_tokens: int | None = None
    off: bool = False
    shown: bool = False
    """Whether the client asks to see a summary of the thoughts."""


@dataclass(frozen=True, slots=True)
class Request:
    """One model call."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    output_format: OutputFormat | None = None
    reasoning: Reasoning | None = None
    stream: bool = False
    include_usage: bool = False
    """Whether a Chat client asked for usage at the end of its stream; the upstream is asked in any case."""
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    verbosity: str = ""
    cache_key: str = ""
    """The prompt cache's key in OpenAI's dialects."""
    dropped: tuple[str, ...] = ()
    """Fields and tools that were left out because nothing in the target says them and the call means the same without."""
