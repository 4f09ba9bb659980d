"""Read a request of OpenAI's Chat Completions API, as its many servers and clients spell it, into neutral words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
    ToolResult,
)
from sluicegate.translation.opaque import unpack
from sluicegate.translation.requests import media
from sluicegate.translation.requests.chat_tools import read_choice, read_tools
from sluicegate.translation.requests.effort import EFFORTS
from sluicegate.translation.requests.fields import CHAT, check
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


def read(fields: Fields) -> Request:
    """Return the request. Raises Untranslatable for what no other API can say."""
    dropped = check(fields, CHAT, "chat")
    tools, gone = read_tools(fields)
    choice, tools = read_choice(fields, tools)
    options = as_object(fields.get("stream_options") or {}, "stream_options")
    limit = fields.get("max_completion_tokens")
    return Request(
        model=as_text(fields.get("model"), "model"),
        messages=_messages(as_list(fields.get("messages"), "messages"), {t.name: t for t in tools}),
        tools=tools,
        tool_choice=choice,
        max_tokens=as_whole(limit if limit is not None else fields.get("max_tokens"), "max_tokens"),
        temperature=as_number(fields.get("temperature"), "temperature"),
        top_p=as_number(fields.get("top_p"), "top_p"),
        top_k=as_whole(fields.get("top_k"), "top_k"),
        stop=as_texts(fields.get("stop"), "stop"),
        output_format=read_format(fields.get("response_format"), "response_format", "json_schema"),
        reasoning=_reasoning(fields),
        stream=as_flag(fields.get("stream"), "stream") or False,
        include_usage=as_flag(options.get("include_usage"), "stream_options.include_usage") or False,
        seed=as_whole(fields.get("seed"), "seed"),
        frequency_penalty=as_number(fields.get("frequency_penalty"), "frequency_penalty"),
        presence_penalty=as_number(fields.get("presence_penalty"), "presence_penalty"),
        verbosity=as_text(fields.get("verbosity"), "verbosity"),
        cache_key=as_text(fields.get("prompt_cache_key"), "prompt_cache_key"),
        dropped=(*dropped, *gone),
    )


def _messages(items: list[Any], tools: dict[str, Tool]) -> tuple[Message, ...]:
    found, legacy = [], ""
    for i, item in enumerate(items):
        where = f"messages[{i}]"
        message = as_object(item, where)
        match message.get("role"):
            case "system" | "developer":
                found.append(Message("system", _content(message, where)))
            case "user":
                found.append(Message("user", _content(message, where)))
            case "assistant":
                found.append(Message("assistant", _assistant_parts(message, where, i, tools)))
                legacy = f"call_{i}"
            case "tool":
                call_id = as_text(message.get("tool_call_id"), f"{where}.tool_call_id")
                found.append(Message("user", (ToolResult(call_id, _returned(message, where)),)))
            case "function":
                found.append(Message("user", (ToolResult(legacy, _returned(message, where)),)))
            case other:
                refuse(where, f"has the role {dump(other)}, which can't be translated")
    return _asked(found)


def _asked(messages: list[Message]) -> tuple[Message, ...]:
    """Return the messages, the last one as the user's where all are the system's: Chat Completions answers such a request."""
    if messages and all(message.role == "system" for message in messages):
        messages[-1] = replace(messages[-1], role="user")
    return tuple(messages)


def _returned(message: Fields, where: str) -> tuple[Text | Image | Document, ...]:
    return tuple(part for part in _content(message, where) if isinstance(part, Text | Image | Document))


def _content(message: Fields, where: str) -> tuple[Part, ...]:
    content = message.get("content")
    if isinstance(content, str):
        return (Text(content),) if content else ()
    parts = [_part(as_object(p, f"{where}.content[{i}]"), f"{where}.content[{i}]") for i, p in enumerate(as_list(content, where))]
    if message.get("role") not in ("user", "tool", "function") and not all(isinstance(part, Text) for part in parts):
        refuse(where, f"a message of the role {dump(message.get('role'))} can hold text alone")
    return tuple(part for part in parts if not (isinstance(part, Text) and not part.text))


def _part(part: Fields, where: str) -> Part:
    match part.get("type"):
        case "text":
            return Text(as_text(part.get("text"), f"{where}.text"), _cache(part, where))
        case "thinking" | "reference":
            # Mistral's way of writing what the model thought and what it quotes.
            return Text("")
        case "refusal":
            return Text(as_text(part.get("refusal"), f"{where}.refusal"))
        case "image_url":
            image = part.get("image_url")
            named = {"url": image} if isinstance(image, str) else as_object(image, f"{where}.image_url")
            detail = as_text(named.get("detail"), f"{where}.image_url.detail")
            return media.image_at(as_text(named.get("url"), where), f"{where}.image_url.url", detail)
        case "file":
            file = as_object(part.get("file"), f"{where}.file")
            if file.get("file_id") is not None or file.get("file_data") is None:
                refuse(f"{where}.file", media.NO_FILE_IDS)
            name = as_text(file.get("filename"), f"{where}.file.filename")
            return media.document_of(as_text(file.get("file_data"), where), f"{where}.file.file_data", name)
        case "input_audio":
            audio = as_object(part.get("input_audio"), f"{where}.input_audio")
            return Document("base64", as_text(audio.get("data"), where), f"audio/{as_text(audio.get('format'), where)}")
        case other:
            refuse(where, f"a part of the type {dump(other)} has no counterpart at another provider")


def _cache(part: Fields, where: str) -> CacheMark:
    mark = part.get("cache_control")
    if mark is None:
        return ""
    return "1h" if as_object(mark, f"{where}.cache_control").get("ttl") == "1h" else "5m"


def _assistant_parts(message: Fields, where: str, number: int, tools: dict[str, Tool]) -> tuple[Part, ...]:
    """Return what the model said and called: its thoughts first, its calls last."""
    if message.get("audio") is not None:
        refuse(f"{where}.audio", "is stored at the provider, which another provider does not have")
    parts: list[Part] = [*_thoughts(message, where), *_content(message, where)]
    refusal = as_text(message.get("refusal"), f"{where}.refusal")
    if refusal:
        parts.append(Text(refusal))
    for i, item in enumerate(as_list(message.get("tool_calls"), f"{where}.tool_calls")):
        parts += _call(as_object(item, f"{where}.tool_calls[{i}]"), f"{where}.tool_calls[{i}]")
    legacy = message.get("function_call")
    if legacy is not None:
        call = as_object(legacy, f"{where}.function_call")
        parts.append(ToolCall(f"call_{number}", as_text(call.get("name"), where), as_text(call.get("arguments"), where)))
    return tuple(parts)


def _call(call: Fields, where: str) -> list[Part]:
    call_id = as_text(call.get("id"), f"{where}.id")
    found: list[Part] = []
    # Gemini's own Chat Completions give a call's thought signature here.
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    if isinstance(signature, str) and signature:
        found.append(Thinking("", unpack(signature) or Opaque("generate_content", signature)))
    if call.get("type") == "custom":
        custom = as_object(call.get("custom"), f"{where}.custom")
        name, text = as_text(custom.get("name"), f"{where}.custom.name"), as_text(custom.get("input"), f"{where}.custom.input")
        return [*found, ToolCall(call_id, name, text, "custom")]
    function = as_object(call.get("function"), f"{where}.function")
    arguments = function.get("arguments")
    text = dump(arguments) if isinstance(arguments, dict) else as_text(arguments, f"{where}.function.arguments")
    return [*found, ToolCall(call_id, as_text(function.get("name"), f"{where}.function.name"), text)]


def _thoughts(message: Fields, where: str) -> list[Thinking]:
    """Return the reasoning that a message carries, in whichever of the servers' ways it does."""
    details = message.get("reasoning_details")
    if isinstance(details, list) and details:
        texts = [as_text(d.get("text") or d.get("summary"), where) for d in details if isinstance(d, dict)]
        packed = (d.get("data") or d.get("signature") for d in details if isinstance(d, dict))
        ours = next((found for text in packed if isinstance(text, str) and (found := unpack(text))), None)
        return [Thinking("".join(texts), ours or Opaque("chat", dump(details)))]
    for name in ("reasoning_content", "reasoning"):
        text = message.get(name)
        if isinstance(text, str) and text:
            return [Thinking(text, Opaque("chat", name))]
    return []


def read_format(value: Any, where: str, member: str | None = None) -> OutputFormat | None:
    """Return the form that an answer is to have, None for any; what a schema is called stands in ``member``, or beside its type."""
    form = as_object(value or {}, where)
    match form.get("type"):
        case None | "text":
            return None
        case "json_object":
            return OutputFormat("json_object")
        case "json_schema":
            at = where if member is None else f"{where}.{member}"
            asked = form if member is None else as_object(form.get(member), at)
            return OutputFormat(
                "json_schema",
                as_object(asked.get("schema") or {}, f"{at}.schema"),
                as_text(asked.get("name"), f"{at}.name"),
                as_text(asked.get("description"), f"{at}.description"),
                as_flag(asked.get("strict"), f"{at}.strict"),
            )
        case other:
            refuse(where, f"has the type {dump(other)}, which has no counterpart")


def _reasoning(fields: Fields) -> Reasoning | None:
    """Return how much to think, as OpenAI, OpenRouter, DeepSeek or DashScope spell it."""
    asked = as_object(fields.get("reasoning") or {}, "reasoning")
    budget = as_whole(asked.get("max_tokens", fields.get("thinking_budget")), "thinking_budget")
    effort = asked.get("effort") or fields.get("reasoning_effort")
    thinking = as_object(fields.get("thinking") or {}, "thinking").get("type")
    shown = asked.get("exclude") is not True
    if effort == "none" or budget == 0 or asked.get("enabled") is False or fields.get("enable_thinking") is False:
        return Reasoning(off=True)
    if effort is None and thinking == "disabled":
        return Reasoning(off=True)
    if effort is not None:
        return Reasoning(read_effort(effort, "reasoning_effort"), budget, shown=bool(asked) and shown)
    if budget is None:
        # Thinking without a measure is what a model does by itself, or, where it does not, about the middle of the scale.
        on = fields.get("enable_thinking") is True or asked.get("enabled") is True or thinking == "enabled"
        return Reasoning("medium", shown=shown) if on else None
    return Reasoning(budget_tokens=budget, shown=shown)


def read_effort(value: Any, where: str) -> Effort:
    """Return an effort in words. Raises Untranslatable for a word that is none."""
    found = next((effort for effort in EFFORTS if effort == value), None)
    return found or refuse(where, f"is {dump(value)}, which is not one of none, {', '.join(EFFORTS)}")
