"""Read a request of OpenAI's Responses API, as Codex and others send it, into neutral words."""

from __future__ import annotations

from typing import Any

from sluicegate.translation.conversation import (
    Document,
    Image,
    Message,
    Opaque,
    Reasoning,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolKind,
    ToolResult,
)
from sluicegate.translation.opaque import unpack
from sluicegate.translation.requests import media
from sluicegate.translation.requests.chat_reader import read_effort, read_format
from sluicegate.translation.requests.fields import RESPONSES, check
from sluicegate.translation.requests.responses_tools import DEFAULT_NAMESPACE, read_choice, read_tools
from sluicegate.translation.requests.typed import Fields, as_flag, as_list, as_number, as_object, as_text, as_whole, dump, refuse

_LEFT_OUT = frozenset({"web_search_call"})
"""What the provider's own tools did in earlier turns; what the model made of it stands in its text."""


def read(fields: Fields) -> Request:
    """Return the request. Raises Untranslatable for what no other API can say."""
    dropped = check(fields, RESPONSES, "responses")
    items = fields.get("input") if isinstance(fields.get("input"), str) else as_list(fields.get("input"), "input")
    tools, gone = read_tools([*as_list(fields.get("tools"), "tools"), *_added_tools(items)])
    if "message.output_text.logprobs" in as_list(fields.get("include"), "include"):
        refuse("include", "asks for log probabilities, which can't be translated; leave them out")
    choice, tools = read_choice(fields, tools)
    form = as_object(fields.get("text") or {}, "text")
    instructions = as_text(fields.get("instructions"), "instructions")
    return Request(
        model=as_text(fields.get("model"), "model"),
        messages=(*([Message("system", (Text(instructions),))] if instructions else []), *_input(items, dropped)),
        tools=tools,
        tool_choice=choice,
        max_tokens=as_whole(fields.get("max_output_tokens"), "max_output_tokens"),
        temperature=as_number(fields.get("temperature"), "temperature"),
        top_p=as_number(fields.get("top_p"), "top_p"),
        output_format=read_format(form.get("format"), "text.format"),
        reasoning=_reasoning(as_object(fields.get("reasoning") or {}, "reasoning")),
        stream=as_flag(fields.get("stream"), "stream") or False,
        include_usage=True,
        verbosity=as_text(form.get("verbosity"), "text.verbosity"),
        cache_key=as_text(fields.get("prompt_cache_key"), "prompt_cache_key"),
        dropped=(*dropped, *gone),
    )


def _added_tools(items: Any) -> list[Any]:
    """Return the tools that items of the conversation add to those at the top."""
    added = [item for item in items if isinstance(item, dict) and item.get("type") == "additional_tools"]
    return [tool for item in added for tool in as_list(item.get("tools"), "input.tools")]


def _input(value: Any, dropped: list[str]) -> list[Message]:
    if isinstance(value, str):
        return [Message("user", (Text(value),))] if value else []
    found = []
    for i, item in enumerate(as_list(value, "input")):
        message = _item(as_object(item, f"input[{i}]"), f"input[{i}]")
        if message is None and item.get("type") in _LEFT_OUT:
            dropped.append(f"input[{i}]: {item.get('type')}")
        elif message is not None:
            found.append(message)
    return found


def _item(item: Fields, where: str) -> Message | None:
    """Return the message that an item is or belongs to; None for one that is none."""
    kind = item.get("type")
    match kind:
        case "message":
            return _message(item, where)
        case None if "role" in item:
            return _message(item, where)
        case "reasoning":
            return Message("assistant", (_thinking(item, where),))
        case "function_call" | "custom_tool_call":
            return Message("assistant", (_call(item, where),))
        case "function_call_output":
            return Message("user", (_result(item, where, "function"),))
        case "custom_tool_call_output":
            return Message("user", (_result(item, where, "custom"),))
        case str() if kind in _LEFT_OUT or kind == "additional_tools":
            return None
        case _:
            refuse(where, f"an item of the type {dump(kind)} has no counterpart at another provider; leave it out")


def _message(item: Fields, where: str) -> Message:
    role = item.get("role")
    content = item.get("content")
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else as_list(content, f"{where}.content")
    found = [_part(as_object(p, f"{where}.content[{i}]"), f"{where}.content[{i}]") for i, p in enumerate(parts)]
    kept = tuple(part for part in found if part != Text(""))
    if role == "user":
        return Message("user", kept)
    if role not in ("assistant", "system", "developer"):
        refuse(where, f"has the role {dump(role)}, which can't be translated")
    if not all(isinstance(part, Text) for part in kept):
        refuse(where, f"a message of the role '{role}' can hold text alone")
    return Message("assistant" if role == "assistant" else "system", kept)


def _part(part: Fields, where: str) -> Text | Image | Document:
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text", "summary_text"):
        return Text(as_text(part.get("text"), f"{where}.text"))
    if kind == "refusal":
        return Text(as_text(part.get("refusal"), f"{where}.refusal"))
    if kind == "input_image":
        if part.get("image_url") is None:
            refuse(where, media.NO_FILE_IDS)
        detail = as_text(part.get("detail"), f"{where}.detail")
        return media.image_at(as_text(part.get("image_url"), f"{where}.image_url"), f"{where}.image_url", detail)
    if kind == "input_file":
        return _file(part, where)
    if kind == "input_audio":
        audio = as_object(part.get("input_audio"), f"{where}.input_audio")
        return Document("base64", as_text(audio.get("data"), where), f"audio/{as_text(audio.get('format'), where)}")
    refuse(where, f"a part of the type {dump(kind)} has no counterpart at another provider")


def _file(part: Fields, where: str) -> Document:
    name = as_text(part.get("filename"), f"{where}.filename")
    if part.get("file_id") is None and part.get("file_data") is not None:
        return media.document_of(as_text(part.get("file_data"), f"{where}.file_data"), f"{where}.file_data", name)
    if part.get("file_id") is None and part.get("file_url") is not None:
        return media.document_at(as_text(part.get("file_url"), f"{where}.file_url"), f"{where}.file_url", name)
    refuse(where, media.NO_FILE_IDS)


def _thinking(item: Fields, where: str) -> Thinking:
    packed = as_text(item.get("encrypted_content"), f"{where}.encrypted_content")
    summary = [*as_list(item.get("summary"), f"{where}.summary"), *as_list(item.get("content"), f"{where}.content")]
    named = as_text(item.get("id"), f"{where}.id")
    texts = [as_text(as_object(part, f"{where}.summary").get("text"), f"{where}.summary") for part in summary]
    return Thinking("\n\n".join(texts), (unpack(packed) or Opaque("responses", packed, id=named)) if packed else None)


def _call(item: Fields, where: str) -> ToolCall:
    kind: ToolKind = "custom" if item.get("type") == "custom_tool_call" else "function"
    namespace = as_text(item.get("namespace"), f"{where}.namespace")
    return ToolCall(
        id=as_text(item.get("call_id"), f"{where}.call_id"),
        name=as_text(item.get("name"), f"{where}.name"),
        arguments=as_text(item.get("input" if kind == "custom" else "arguments"), f"{where}.arguments"),
        kind=kind,
        namespace="" if namespace == DEFAULT_NAMESPACE else namespace,
    )


def _result(item: Fields, where: str, kind: ToolKind) -> ToolResult:
    output = item.get("output")
    call_id = as_text(item.get("call_id"), f"{where}.call_id")
    if isinstance(output, str):
        return ToolResult(call_id, (Text(output),) if output else (), kind=kind)
    parts = [_part(as_object(p, f"{where}.output[{i}]"), f"{where}.output[{i}]") for i, p in enumerate(as_list(output, where))]
    return ToolResult(call_id, tuple(part for part in parts if part != Text("")), kind=kind)


def _reasoning(reasoning: Fields) -> Reasoning | None:
    shown = reasoning.get("summary", reasoning.get("generate_summary")) is not None
    effort = reasoning.get("effort")
    if effort == "none":
        return Reasoning(off=True)
    if effort is None:
        return Reasoning(shown=True) if shown else None
    return Reasoning(read_effort(effort, "reasoning.effort"), shown=shown)
