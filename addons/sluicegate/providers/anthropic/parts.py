"""What a Messages body may hold: parts that are known to be text, and parts that are read in one pass.

A body that fits ``TEXT`` costs no more than its bytes; one that fits ``ONE_PASS`` no more than one context window. Whatever
is not listed here fits neither: a new field or type is dear until it is known. Source: the parameter types of the Messages
API in anthropic 2.14.0 (2026-11) and bodies of Claude Code 2.1.332.
"""

from __future__ import annotations

import threading
from typing import Literal

import msgspec

from sluicegate.providers.requests.parts import ABSENT, Json, Part, Words


class Met(threading.local):
    """What the decoders have met in this thread since somebody last looked: asking each block of each call takes longer."""

    names_tools = False
    """Whether a block names a tool that another part of its body defines."""


met = Met()


class TextBlock(Part, tag="text"):
    """Text."""

    text: Words
    cache_control: Json = ABSENT
    citations: Json = ABSENT


class Thinking(Part, tag="thinking"):
    """Earlier thinking, sent back."""

    thinking: Words
    signature: Words = ABSENT


class RedactedThinking(Part, tag="redacted_thinking"):
    """Earlier thinking, encrypted."""

    data: Words


class ToolUse(Part, tag="tool_use"):
    """A call of a client tool."""

    id: str
    name: str
    input: Json
    cache_control: Json = ABSENT
    caller: Json = ABSENT
    toolset_name: Json = ABSENT


class ToolReference(Part, tag="tool_reference"):
    """A tool that a search among the client's tools has found, by its name."""

    tool_name: str
    cache_control: Json = ABSENT

    def __post_init__(self) -> None:
        met.names_tools = True


class SearchResult(Part, tag="search_result"):
    """A search result in the client's own words."""

    content: list[TextBlock]
    source: str
    title: str
    cache_control: Json = ABSENT


class PlainText(Part, tag="text"):
    """A document's text."""

    data: Words
    media_type: str = ""


class TextContent(Part, tag="content"):
    """A document's blocks of text."""

    content: str | list[TextBlock]


class TextDocument(Part, tag="document"):
    """A document without citations, which would add tokens for every sentence."""

    source: PlainText | TextContent
    title: str | None = None
    context: str | None = None
    cache_control: Json = ABSENT


class Compaction(Part, tag="compaction"):
    """A summary of what came before."""

    content: str | None = None
    signature: str | None = None
    cache_control: Json = ABSENT


class Fallback(Part, tag="fallback", rename={"from_model": "from"}):
    """Where another model took over; not shown to the model."""

    from_model: Json = ABSENT
    to: Json = ABSENT
    trigger: Json = ABSENT


class ToolResult[T](Part, tag="tool_result"):
    """What a client tool returned."""

    tool_use_id: str
    content: str | list[T] | None = None
    is_error: bool | None = None
    cache_control: Json = ABSENT
    toolset_name: Json = ABSENT


class Image(Part, tag="image"):
    """An image, whatever its source."""

    source: Json
    cache_control: Json = ABSENT
    transformations: Json = ABSENT


class Document(Part, tag="document"):
    """A document, whatever its source."""

    source: Json
    title: str | None = None
    context: str | None = None
    cache_control: Json = ABSENT
    citations: Json = ABSENT


class CitedResult(Part, tag="search_result"):
    """A search result that may be cited."""

    content: list[TextBlock]
    source: str
    title: str
    cache_control: Json = ABSENT
    citations: Json = ABSENT


class BrowserState(Part, tag="browser_state"):
    """The state of the client's browser, written out by the server."""

    tabs: Json
    state_changes: Json = ABSENT
    cache_control: Json = ABSENT


CLIENT_TOOLS = (
    "bash_20241022",
    "bash_20250124",
    "computer_20241022",
    "computer_20250124",
    "computer_20251124",
    "memory_20250818",
    "text_editor_20241022",
    "text_editor_20250124",
    "text_editor_20250429",
    "text_editor_20250728",
)
"""Tools that the provider describes to the model and the client runs."""


class CustomTool(Part):
    """A tool that the client describes and runs."""

    name: str
    type: Literal["custom"] | None = None
    description: str | None = None
    input_schema: Json = ABSENT
    input_examples: Json = ABSENT
    cache_control: Json = ABSENT
    allowed_callers: Json = ABSENT
    defer_loading: Json = ABSENT
    eager_input_streaming: Json = ABSENT
    strict: Json = ABSENT


class ClientTool(CustomTool):
    """A tool that the client runs; those of a type of their own are described by the provider."""

    type: Literal["custom", *CLIENT_TOOLS] | None = None  # type: ignore[valid-type]
    max_characters: Json = ABSENT
    display_width_px: Json = ABSENT
    display_height_px: Json = ABSENT
    display_number: Json = ABSENT
    enable_zoom: Json = ABSENT


class ToolName(Part, tag="tool_reference"):
    """Names a tool of the body."""

    name: str

    def __post_init__(self) -> None:
        met.names_tools = True


class ToolDefinition(Part, tag="tool_definition"):
    """Defines a tool in passing."""

    definition: CustomTool


class ToolAddition(Part, tag="tool_addition"):
    """Offers a tool from here on."""

    tool: ToolName | ToolDefinition
    cache_control: Json = ABSENT


class ToolRemoval(Part, tag="tool_removal"):
    """Takes a tool away from here on."""

    tool: Json
    cache_control: Json = ABSENT


class Message[T](Part):
    """One message."""

    role: str
    content: str | list[T] | None = None
    output_config: Json = ABSENT
    clear_at: Json = ABSENT


class ClearToolUses(Part, tag="clear_tool_uses_20250919"):
    """Removes old tool results before the model reads."""

    trigger: Json = ABSENT
    keep: Json = ABSENT
    clear_at_least: Json = ABSENT
    clear_tool_inputs: Json = ABSENT
    exclude_tools: Json = ABSENT


class ClearThinking(Part, tag="clear_thinking_20251015"):
    """Removes old thinking before the model reads."""

    keep: Json = ABSENT


class ContextManagement(Part):
    """Edits that only remove: each makes the prompt shorter and none reads it again."""

    edits: list[ClearToolUses | ClearThinking] | None = None


class Settings(Part):
    """Top-level fields that hold no content: they are governed elsewhere, or change how the model samples."""

    model: Json = ABSENT
    max_tokens: Json = ABSENT
    stream: Json = ABSENT
    speed: Json = ABSENT
    service_tier: Json = ABSENT
    inference_geo: Json = ABSENT
    thinking: Json = ABSENT
    fallbacks: Json = ABSENT
    fallback_credit_token: Json = ABSENT
    tool_choice: Json = ABSENT
    output_config: Json = ABSENT
    output_format: Json = ABSENT
    metadata: Json = ABSENT
    stop_sequences: Json = ABSENT
    temperature: Json = ABSENT
    top_p: Json = ABSENT
    top_k: Json = ABSENT
    cache_control: Json = ABSENT
    diagnostics: Json = ABSENT
    betas: Json = ABSENT
    anthropic_beta: Json = ABSENT
    anthropic_version: Json = ABSENT
    user_profile_id: Json = ABSENT
    workspace_id: Json = ABSENT
    billing_policy: Json = ABSENT


class TextBody(Settings):
    """A body of text alone, without server tools."""

    messages: list[Message[TextPart]] | None = None
    system: str | list[TextBlock] | None = None
    tools: list[ClientTool] | None = None
    context_management: ContextManagement | None = None


class OnePassBody(Settings):
    """A body with media or references in known places; its tools are judged by themselves."""

    messages: list[Message[OnePassPart]] | None = None
    system: str | list[TextBlock] | None = None
    tools: Json = ABSENT
    context_management: Json = ABSENT
    compaction: Json = ABSENT
    thread: Json = ABSENT


_TextResult = TextBlock | SearchResult | TextDocument | ToolReference
TextPart = (
    TextBlock
    | Thinking
    | RedactedThinking
    | ToolUse
    | ToolResult[_TextResult]
    | SearchResult
    | TextDocument
    | Compaction
    | Fallback
    | ToolAddition
    | ToolRemoval
)
_OnePassResult = TextBlock | CitedResult | Document | ToolReference | Image | BrowserState
OnePassPart = (
    TextBlock
    | Thinking
    | RedactedThinking
    | ToolUse
    | ToolResult[_OnePassResult]
    | CitedResult
    | Document
    | Image
    | Compaction
    | Fallback
    | ToolAddition
    | ToolRemoval
)

TEXT = msgspec.json.Decoder(TextBody)
ONE_PASS = msgspec.json.Decoder(OnePassBody)
