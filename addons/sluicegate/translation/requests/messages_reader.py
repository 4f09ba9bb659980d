"""Read a request of Anthropic's Messages API into neutral words."""

from __future__ import annotations

from typing import Any

from sluicegate.providers.anthropic.attribution import ATTRIBUTION_PREFIX
from sluicegate.translation.conversation import (
    CacheMark,
    Document,
    Effort,
    Image,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from sluicegate.translation.opaque import unpack
from sluicegate.translation.requests import media
from sluicegate.translation.requests.effort import EFFORTS
from sluicegate.translation.requests.fields import MESSAGES, check
from sluicegate.translation.requests.server_tools import keep_or_refuse
from sluicegate.translation.requests.typed import (
    Fields,
    as_flag,
    as_list,
    as_number,
    as_object,
    as_text,
    as_texts,
    as_whole,
    dump,
    refuse,
)

_SERVER_BLOCKS = frozenset(
    {
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "tool_search_tool_result",
        "advisor_tool_result",
        "fallback",
    }
)
"""What Anthropic's own tools did in earlier turns; what the model made of it stands in its text."""


def read(fields: Fields) -> Request:
    """Return the request. Raises Untranslatable for what no other API can say."""
    dropped = check(fields, MESSAGES, "messages")
    tools, gone = _tools(as_list(fields.get("tools"), "tools"))
    output = as_object(fields.get("output_config") or {}, "output_config")
    return Request(
        model=as_text(fields.get("model"), "model"),
        messages=(*_system(fields.get("system")), *_messages(as_list(fields.get("messages"), "messages"), dropped)),
        tools=tools,
        tool_choice=_choice(fields.get("tool_choice"), gone),
        max_tokens=as_whole(fields.get("max_tokens"), "max_tokens"),
        temperature=as_number(fields.get("temperature"), "temperature"),
        top_p=as_number(fields.get("top_p"), "top_p"),
        top_k=as_whole(fields.get("top_k"), "top_k"),
        stop=as_texts(fields.get("stop_sequences"), "stop_sequences"),
        output_format=_format(output.get("format") or fields.get("output_format")),
        reasoning=_reasoning(as_object(fields.get("thinking") or {}, "thinking"), output),
        stream=as_flag(fields.get("stream"), "stream") or False,
        include_usage=True,
        dropped=(*dropped, *gone),
    )


def _system(system: Any) -> tuple[Message, ...]:
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else as_list(system, "system")
    texts = tuple(_text(as_object(block, f"system[{i}]"), f"system[{i}]") for i, block in enumerate(blocks))
    kept = tuple(text for text in texts if text.text and not text.text.startswith(ATTRIBUTION_PREFIX))
    return (Message("system", kept),) if kept else ()


def _messages(messages: list[Any], dropped: list[str]) -> list[Message]:
    found = []
    for i, item in enumerate(messages):
        where = f"messages[{i}]"
        message = as_object(item, where)
        role = message.get("role")
        if role not in ("user", "assistant", "system"):
            refuse(where, "has a role that is not one of user, assistant and system")
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else as_list(content, f"{where}.content")
        parts: list[Part | None] = []
        for j, block in enumerate(blocks):
            here = f"{where}.content[{j}]"
            fields = as_object(block, here)
            parts += [*_context(fields, here), _part(fields, here, role)]
        if None in parts:
            dropped.append(f"{where}: blocks of tools that ran at Anthropic")
        found.append(Message(role, tuple(part for part in parts if part is not None and part != Text(""))))
    return found


def _part(block: Fields, where: str, role: str) -> Part | None:
    """Return one block; None for one that is left out."""
    kind = as_text(block.get("type"), f"{where}.type")
    if kind in ("text", "image", "document", "search_result", "tool_reference"):
        part = _shown(block, where)
        if role == "assistant" and not isinstance(part, Text):
            refuse(where, "a message of the model can hold no image or file elsewhere")
        return part
    if kind in ("tool_use", "tool_result"):
        if (kind == "tool_use") != (role == "assistant"):
            refuse(where, f"a message of the role '{role}' can hold no {kind}")
        return _tool_use(block, where) if kind == "tool_use" else _tool_result(block, where)
    if kind in ("thinking", "redacted_thinking") and role == "assistant":
        return _thinking(block, where)
    if kind == "compaction" and isinstance(block.get("content"), str):
        return Text(block["content"])
    if kind in _SERVER_BLOCKS and role == "assistant":
        return None
    refuse(where, f"a block of the type {dump(kind)} has no counterpart at another provider")


def _context(block: Fields, where: str) -> list[Text]:
    """Return what a document's block says of it besides, which Anthropic shows to the model without citing it."""
    context = as_text(block.get("context"), f"{where}.context") if block.get("type") == "document" else ""
    return [Text(context)] if context else []


def _shown(block: Fields, where: str) -> Text | Image | Document:
    kind = block.get("type")
    if kind == "text":
        return _text(block, where)
    if kind == "search_result":
        texts = [as_text(as_object(part, where).get("text"), where) for part in as_list(block.get("content"), where)]
        head = f"{as_text(block.get('title'), where)}\n{as_text(block.get('source'), where)}"
        return Text("\n\n".join((head, *texts)), _cache(block, where))
    if kind == "tool_reference":
        return Text(f"The tool {as_text(block.get('tool_name'), where)} is available.")
    if kind in ("image", "document"):
        return _media(block, where, kind)
    refuse(where, f"a block of the type {dump(kind)} has no counterpart at another provider")


def _media(block: Fields, where: str, kind: str) -> Text | Image | Document:
    source = as_object(block.get("source"), f"{where}.source")
    cache, title = _cache(block, where), as_text(block.get("title"), f"{where}.title")
    match source.get("type"):
        case "base64":
            media_type = as_text(source.get("media_type"), where) or refuse(f"{where}.source", "has no media_type")
            data = as_text(source.get("data"), where)
            return (
                Image("base64", data, media_type, cache=cache)
                if kind == "image"
                else Document("base64", data, media_type, title, cache)
            )
        case "url":
            url = as_text(source.get("url"), where)
            return Image("url", url, cache=cache) if kind == "image" else Document("url", url, "application/pdf", title, cache)
        case "text":
            text = as_text(source.get("data"), where)
            return Text(f"{title}\n{text}" if title else text, cache)
        case "content":
            content = source.get("content")
            if isinstance(content, str):
                return Text(content, cache)
            texts = [_shown(as_object(part, where), where) for part in as_list(content, where)]
            if all(isinstance(part, Text) for part in texts):
                return Text("\n\n".join((*([title] if title else []), *(t.text for t in texts if isinstance(t, Text)))), cache)
            refuse(where, "images inside a document can't be translated; send them beside it")
        case "file":
            refuse(f"{where}.source", media.NO_FILE_IDS)
        case other:
            refuse(f"{where}.source", f"has the type {dump(other)}, which has no counterpart")


def _text(block: Fields, where: str) -> Text:
    if block.get("type") != "text":
        refuse(where, "must be a block of the type text")
    return Text(as_text(block.get("text"), f"{where}.text"), _cache(block, where))


def _cache(block: Fields, where: str) -> CacheMark:
    mark = block.get("cache_control")
    if mark is None:
        return ""
    return "1h" if as_object(mark, f"{where}.cache_control").get("ttl") == "1h" else "5m"


def _thinking(block: Fields, where: str) -> Thinking:
    if block.get("type") == "redacted_thinking":
        data = as_text(block.get("data"), f"{where}.data")
        return Thinking("", unpack(data) or Opaque("messages", data, redacted=True))
    text, signature = as_text(block.get("thinking"), f"{where}.thinking"), as_text(block.get("signature"), f"{where}.signature")
    return Thinking(text, (unpack(signature) or Opaque("messages", signature)) if signature else None)


def _tool_use(block: Fields, where: str) -> ToolCall:
    arguments = block.get("input")
    return ToolCall(
        id=as_text(block.get("id"), f"{where}.id"),
        name=as_text(block.get("name"), f"{where}.name"),
        arguments=dump(arguments if arguments is not None else {}),
        cache=_cache(block, where),
    )


def _tool_result(block: Fields, where: str) -> ToolResult:
    content = block.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else as_list(content, f"{where}.content")
    parts: list[Text | Image | Document] = []
    for i, item in enumerate(blocks):
        here = f"{where}.content[{i}]"
        inner = as_object(item, here)
        parts += [*_context(inner, here), _shown(inner, here)]
    return ToolResult(
        call_id=as_text(block.get("tool_use_id"), f"{where}.tool_use_id"),
        parts=tuple(part for part in parts if part != Text("")),
        is_error=as_flag(block.get("is_error"), f"{where}.is_error") or False,
        cache=_cache(block, where),
    )


def _tools(tools: list[Any]) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """Return the client's tools, and the names of Anthropic's own that are left out."""
    found, kinds = [], []
    for i, item in enumerate(tools):
        where = f"tools[{i}]"
        tool = as_object(item, where)
        if tool.get("type") not in (None, "custom"):
            kinds.append(as_text(tool.get("type"), f"{where}.type"))
            continue
        found.append(
            Tool(
                name=as_text(tool.get("name"), f"{where}.name"),
                description=as_text(tool.get("description"), f"{where}.description"),
                schema=as_object(tool.get("input_schema") or {}, f"{where}.input_schema"),
                strict=as_flag(tool.get("strict"), f"{where}.strict"),
                cache=_cache(tool, where),
            )
        )
    return tuple(found), keep_or_refuse(kinds, "messages", bool(found))


def _choice(value: Any, gone: tuple[str, ...]) -> ToolChoice:
    choice = as_object(value or {}, "tool_choice")
    alone = as_flag(choice.get("disable_parallel_tool_use"), "tool_choice.disable_parallel_tool_use")
    parallel = None if alone is None else not alone
    match choice.get("type"):
        case None | "auto":
            return ToolChoice(parallel=parallel)
        case "none":
            return ToolChoice("none")
        case "any":
            return ToolChoice("required", parallel=parallel)
        case "tool":
            name = as_text(choice.get("name"), "tool_choice.name")
            if any(kind.startswith(name) for kind in gone):
                refuse("tool_choice", f"asks for '{name}', which runs at Anthropic and nowhere else")
            return ToolChoice("tool", name, parallel=parallel)
        case other:
            refuse("tool_choice", f"has the type {dump(other)}, which has no counterpart")


def _format(value: Any) -> OutputFormat | None:
    if value is None:
        return None
    form = as_object(value, "output_config.format")
    if form.get("type") != "json_schema":
        refuse("output_config.format", f"has the type {dump(form.get('type'))}, which has no counterpart")
    return OutputFormat("json_schema", as_object(form.get("schema"), "output_config.format.schema"), strict=True)


def _reasoning(thinking: Fields, output: Fields) -> Reasoning:
    effort = _effort(output.get("effort"))
    shown = thinking.get("display") != "omitted"
    match thinking.get("type"):
        case None if effort:
            return Reasoning(effort)
        case None | "disabled":
            return Reasoning(off=True)
        case "enabled":
            budget = as_whole(thinking.get("budget_tokens"), "thinking.budget_tokens")
            return Reasoning(effort, budget, shown=shown)
        case "adaptive":
            return Reasoning(effort, shown=shown)
        case other:
            refuse("thinking", f"has the type {dump(other)}, which has no counterpart")


def _effort(value: Any) -> Effort | None:
    if value is None:
        return None
    found = next((effort for effort in EFFORTS if effort == value), None)
    return found or refuse("output_config.effort", f"is {dump(value)}, which is not one of {', '.join(EFFORTS)}")
