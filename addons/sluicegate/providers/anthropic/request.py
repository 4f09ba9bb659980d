"""Read the body of a Messages call: what governance needs to know before it leaves."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from sluicegate.providers.anthropic.parts import (
    CLIENT_TOOLS,
    ONE_PASS,
    TEXT,
    TextBody,
    ToolAddition,
    ToolDefinition,
    ToolName,
    ToolReference,
    ToolResult,
    met,
)
from sluicegate.providers.anthropic.sources import NO_SOURCES, find_sources
from sluicegate.providers.requests.body import MAX_OBJECT_BYTES, MAX_TOOLS, Members, Problems, RequestBody
from sluicegate.providers.requests.server_tools import (
    ANTHROPIC_LOOP_PASSES,
    MAX_SERVER_FALLBACKS,
    PROVIDER_PROMPT_TOKENS,
    UNKNOWN_TOOL,
    ExtentBuilder,
    ServerTool,
)
from sluicegate.values import Extent, RequestFacts

_MISSING = msgspec.Raw(b"")

UNNAMED_MODEL = "claude-default"
"""Stands for the model that the provider chooses when ``fallbacks`` is ``"default"``.

It is judged as a model of this name: a key must allow it, and it costs as much as the dearest of its family.
"""

SERVER_TOOLS = {
    "advisor_": ServerTool(),
    "code_execution_": ServerTool(code_sessions=True),
    "mcp_toolset": ServerTool(),
    "tool_search_tool_": ServerTool(),
    "web_fetch_": ServerTool(),
    "web_search_": ServerTool(web_searches=True),
}
"""Server tools by the beginning of their types."""

REMOVING_EDITS = ("clear_tool_uses_20250919", "clear_thinking_20251015")
"""Edits of the context that only make it shorter. Any other may have it read and summarised by the model first."""


JUDGED_APART = frozenset({"model", "messages", "system", "tools", "fallbacks", "metadata", "output_format"})
"""Top-level fields whose models are found elsewhere, or that hold content. Every other field may name a model for the work."""


_CONTENT = JUDGED_APART - {"model"}

NO_MODELS: tuple[str, ...] = ()

MAX_REMEMBERED_BYTES = 2048
"""Bytes of a body's settings that are remembered; an agent's have some hundred."""


class _Definition(msgspec.Struct, gc=False):
    definition: msgspec.Raw = _MISSING


class _Changing(msgspec.Struct, gc=False):
    tool: _Definition | None = None


class _ChangingMessage(msgspec.Struct, gc=False):
    content: str | list[_Changing] | None = None


class _ChangingBody(msgspec.Struct, gc=False):
    messages: list[_ChangingMessage] | None = None


_INLINE_TOOLS = msgspec.json.Decoder(_ChangingBody)
"""Decodes only the tools that messages define."""


class Named(NamedTuple):
    """What the path says of a call, in place of its body."""

    model: str
    stream: bool


class _Settings(NamedTuple):
    """What a body says in the fields that hold none of its content."""

    model: str | None
    stream: bool
    max_tokens: int | None
    speed: str | None
    inference_geo: str | None
    service_tier: str | None
    thinking_tokens: int | None
    models: tuple[str, ...]
    """The models that any other field names."""


def _read_settings(request: Members, named: Named | None = None) -> _Settings:
    if named is None:
        model, stream = request.model(), request.flag("stream")
    else:
        model, stream = named
        twice = next((field for field in Named._fields if request.raw(field)), None)
        if twice is not None:
            request.problems.append(f"the path says it, so leave '{twice}' out of the body")
    return _Settings(
        model=model,
        stream=stream,
        max_tokens=request.count("max_tokens"),
        speed=request.text("speed"),
        inference_geo=request.text("inference_geo"),
        service_tier=request.text("service_tier"),
        thinking_tokens=request.child("thinking").count("budget_tokens"),
        models=tuple(request.models(JUDGED_APART)),
    )


@lru_cache(maxsize=512)
def _usual_settings(members: tuple[tuple[str, bytes], ...]) -> _Settings | None:
    """Return what these fields say; None where anything is wrong with them."""
    request = Members({name: msgspec.Raw(value) for name, value in members}, Problems())
    settings = _read_settings(request)
    return None if request.problems else settings


def _settings_of(request: RequestBody) -> _Settings:
    """Return what the body's settings say. One call of an agent has those of the last, so they are read once."""
    members = tuple([(name, bytes(value)) for name, value in request.members.items() if name not in _CONTENT])
    is_short = sum([len(name) + len(value) for name, value in members]) <= MAX_REMEMBERED_BYTES
    return (_usual_settings(members) if is_short else None) or _read_settings(request)


def read_request(body: bytes, named: Named | None = None, size: int | None = None) -> RequestFacts | str:
    """Read the facts of a Messages body; of one whose path names the model, it must not.

    ``size`` is the length of the whole where ``body`` is what was left of it.
    """
    size = len(body) if size is None else size
    request = RequestBody(body)
    settings = _settings_of(request) if named is None else _read_settings(request, named)
    model, speed, max_tokens = settings.model, settings.speed, settings.max_tokens
    if request.problem or model is None:
        return request.problem or "no model"
    met.names_tools = False
    text = request.read_as(TEXT)
    sources, models = NO_SOURCES, NO_MODELS
    if text is not None and not settings.models and "fallbacks" not in request.members:
        extent = _extent_of_text(settings, _client_tools_tokens(text, request))
    else:
        builder = _builder_of(settings)
        if text is not None:
            builder.prompt_tokens += _client_tools_tokens(text, request)
        elif request.can_be_searched():
            sources = find_sources(request.json)
            _add_server_side(request, builder)
        builder.name_models(settings.models, request.problems)
        _add_fallbacks(request, builder)
        extent, models = builder.extent(max_tokens), tuple(builder.models)
    if request.problem:
        return request.problem
    return RequestFacts(
        model=model,
        models=models,
        stream=settings.stream,
        max_tokens=max_tokens,
        body_bytes=size,
        text_bytes=size - sources.payload_bytes,
        images=sources.images,
        is_text_only=text is not None,
        speed=speed,
        service_tier=settings.service_tier,
        inference_geo=settings.inference_geo,
        extent=extent,
        members=request.written,
    )


def _builder_of(settings: _Settings) -> ExtentBuilder:
    builder = ExtentBuilder(ANTHROPIC_LOOP_PASSES)
    builder.may_be_fast = settings.speed not in (None, "standard")
    builder.add_output(settings.thinking_tokens)
    return builder


@lru_cache(maxsize=512)
def _extent_of_text(settings: _Settings, prompt_tokens: int) -> Extent:
    """Return how far a call of these settings goes that is text alone; its tools add ``prompt_tokens``."""
    builder = _builder_of(settings)
    builder.prompt_tokens = prompt_tokens
    return builder.extent(settings.max_tokens)


def _client_tools_tokens(text: TextBody, request: RequestBody) -> int:
    """Return the tokens that the provider adds to the prompt for tools that the client runs."""
    tokens = _repeated_tokens(text) if met.names_tools else 0
    if text.tools:
        if len(text.tools) > MAX_TOOLS:
            request.problems.append(f"the body has more than {MAX_TOOLS} tools")
        tokens += sum([PROVIDER_PROMPT_TOKENS for tool in text.tools if tool.type not in (None, "custom")])
    return tokens


def _repeated_tokens(text: TextBody) -> int:
    """Return how much reading tools adds that the body defines once and names again: each naming writes out the definition."""
    offered: list[ToolName | ToolDefinition] = []
    named: list[str] = []
    for message in text.messages or ():
        for block in message.content if isinstance(message.content, list) else ():
            if isinstance(block, ToolAddition):
                offered.append(block.tool)
            elif isinstance(block, ToolResult) and isinstance(block.content, list):
                named += [x.tool_name for x in block.content if isinstance(x, ToolReference)]
    named += [tool.name for tool in offered if isinstance(tool, ToolName)]
    if not named:
        return 0
    defined = [*(text.tools or ()), *(tool.definition for tool in offered if isinstance(tool, ToolDefinition))]
    sizes: dict[str, int] = {}
    for tool in defined:
        sizes[tool.name] = sizes.get(tool.name, 0) + len(msgspec.json.encode(tool))
    # A name that the body does not define may stand for any of its tools.
    largest = max(sizes.values(), default=0)
    return sum(sizes.get(name, largest) for name in named)


def _add_server_side(request: RequestBody, builder: ExtentBuilder) -> None:
    """Add what the provider may do by itself."""
    for tool in (*request.children("tools"), *_tools_in_messages(request)):
        _add_tool(tool, builder)
    edits = request.child("context_management").children("edits")
    if request.raw("compaction") or any(edit.text("type") not in REMOVING_EDITS for edit in edits):
        builder.compacts = builder.writes_freely = True
    if request.raw("mcp_servers") or request.raw("container") or request.read_as(ONE_PASS) is None:
        # Something in the body is not listed, and may be a server tool.
        builder.add_unknown()


def _add_tool(tool: Members, builder: ExtentBuilder) -> None:
    kind = tool.value("type", limit=MAX_OBJECT_BYTES)
    if kind in (None, "custom", *CLIENT_TOOLS):
        builder.add_client_tool(tool)
        return
    kind, uses = str(kind), tool.count("max_uses")
    builder.add_tool(tool, next((k for prefix, k in SERVER_TOOLS.items() if kind.startswith(prefix)), UNKNOWN_TOOL), uses)
    if kind.startswith("advisor_"):
        # An advisor reads the whole conversation each time it is asked.
        builder.more_passes += ANTHROPIC_LOOP_PASSES if uses is None else uses
        limit = tool.count("max_tokens")
        builder.add_output(limit)
        builder.writes_freely = builder.writes_freely or limit is None


def _tools_in_messages(request: RequestBody) -> list[Members]:
    """Return the tools that messages define in passing."""
    found = request.read_as(_INLINE_TOOLS)
    blocks = [b for m in (found.messages or () if found else ()) if isinstance(m.content, list) for b in m.content]
    defined = [b.tool.definition for b in blocks if b.tool is not None and b.tool.definition]
    return Members({"tools": msgspec.Raw(msgspec.json.encode(defined))}, request.problems).children("tools") if defined else []


def _add_fallbacks(request: RequestBody, builder: ExtentBuilder) -> None:
    """Add the models that take over when one declines: each reads the conversation again."""
    raw = request.raw("fallbacks")
    if not raw:
        return
    if not raw.startswith(b"["):
        builder.models.append(UNNAMED_MODEL)
        builder.attempts += MAX_SERVER_FALLBACKS
        return
    listed = request.value("fallbacks", limit=MAX_OBJECT_BYTES)
    builder.attempts += len(listed or ())
    builder.name_models([x for x in listed or () if isinstance(x, str)], request.problems)
    for attempt in request.children("fallbacks"):
        builder.name_models(attempt.models(()), request.problems)
        builder.add_output(attempt.count("max_tokens"))
        builder.may_be_fast = builder.may_be_fast or attempt.text("speed") not in (None, "standard")
        builder.add_output(attempt.child("thinking").count("budget_tokens"))
