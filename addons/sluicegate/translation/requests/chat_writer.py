"""Write a request of OpenAI's Chat Completions API, as all servers of it read it, from neutral words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sluicegate.translation.conversation import (
    Document,
    Image,
    Message,
    OutputFormat,
    Part,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Untranslatable,
)
from sluicegate.translation.names import ToolNames
from sluicegate.translation.requests import media
from sluicegate.translation.requests.custom_tools import arguments_text, described, schema_of
from sluicegate.translation.requests.effort import effort_of, nearest
from sluicegate.translation.requests.models import OpenAIModel, openai_model
from sluicegate.translation.requests.pairing import call_id, from_system, joined, split_system
from sluicegate.translation.requests.schemas import for_tool, is_strict
from sluicegate.translation.requests.stops import sent_stops

type Block = dict[str, Any]

FAILED = "The tool failed:\n"
"""Begins the result of a failed tool where the API has no field for that."""


def write(request: Request, names: ToolNames) -> Block:
    """Return the body. Raises Untranslatable for what the API cannot say."""
    takes = openai_model(request.model)
    writer = _Writer(request, names)
    system, rest = split_system(request.messages)
    messages: list[Block] = [{"role": "system", "content": joined(system)}] if system else []
    turn = max((i for i, message in enumerate(rest) if _asks(message)), default=0)
    for i, message in enumerate(rest):
        # Only OpenAI's own models read a system message in mid-conversation; templates of others fail on it.
        messages += writer.messages(message if takes.is_openai else from_system(message), i > turn)
    if not messages:
        raise Untranslatable("messages: holds nothing for the model; send at least one message")
    body: Block = {"model": request.model, "messages": messages}
    if request.tools:
        body["tools"] = [writer.tool(tool) for tool in request.tools]
        body |= choice_fields(request.tool_choice, names, "function")
    if request.max_tokens is not None:
        field = "max_completion_tokens" if takes.is_openai else "max_tokens"
        body[field] = min(request.max_tokens, takes.max_tokens)
    body |= _sampling(request, takes)
    if request.output_format:
        body["response_format"] = _format(request.output_format)
    effort = effort_for(request, takes)
    if effort:
        body["reasoning_effort"] = effort
    if request.verbosity and takes.reasons and takes.is_openai:
        body["verbosity"] = request.verbosity
    body["stream"] = request.stream
    if request.stream:
        # Without it a stream reports no usage, and the call could not be charged exactly.
        body["stream_options"] = {"include_usage": True}
    return body


def _asks(message: Message) -> bool:
    return message.role == "user" and not any(isinstance(part, ToolResult) for part in message.parts)


def effort_for(request: Request, takes: OpenAIModel) -> str:
    """Return the effort that a model shall be told; empty where it takes none or the client leaves it open."""
    asked = request.reasoning
    if asked is None or not takes.efforts:
        return ""
    if asked.off:
        return takes.off
    effort = effort_of(asked)
    return nearest(effort, takes.efforts) if effort else ""


def choice_fields(choice: ToolChoice, names: ToolNames, nested: str) -> Block:
    """Return the fields that say which tools to call; ``nested`` is the field around a tool's name, if there is one."""
    found: Block = {}
    if choice.mode == "tool":
        name = {"name": names.sent(choice.name, choice.namespace)}
        found["tool_choice"] = {"type": "function", **({nested: name} if nested else name)}
    elif choice.mode != "auto":
        found["tool_choice"] = choice.mode
    if choice.parallel is False and choice.mode != "none":
        found["parallel_tool_calls"] = False
    return found


def _sampling(request: Request, takes: OpenAIModel) -> Block:
    found: Block = {}
    if not (takes.reasons and takes.is_openai):
        pairs = {"temperature": request.temperature, "top_p": request.top_p, "seed": request.seed}
        pairs |= {"frequency_penalty": request.frequency_penalty, "presence_penalty": request.presence_penalty}
        found |= {name: value for name, value in pairs.items() if value is not None}
    stop = sent_stops(request.stop, "chat", request.model)
    if stop:
        found["stop"] = list(stop)
    return found


def _format(form: OutputFormat) -> Block:
    if form.kind == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": schema_fields(form)}


def schema_fields(form: OutputFormat) -> Block:
    """Return a schema of the answer with its name, as both of OpenAI's APIs take it."""
    found: Block = {"name": form.name or "answer"}
    if form.description:
        found["description"] = form.description
    return found | {"schema": dict(form.schema), "strict": form.strict is True and is_strict(form.schema)}


def result_text(part: ToolResult) -> str:
    """Return the text of a tool's result, marked where the tool failed."""
    texts = joined(text for inner in part.parts if (text := _text_of(inner)))
    return FAILED + texts if part.is_error else texts


def _text_of(part: Part) -> Text | None:
    if isinstance(part, Document):
        return media.as_text(part)
    return part if isinstance(part, Text) else None


class _Writer:
    def __init__(self, request: Request, names: ToolNames) -> None:
        self.names = names
        self.model = request.model

    def messages(self, message: Message, under_way: bool) -> list[Block]:
        """Return one or more messages: each result of a tool is one of its own, and what it can't hold follows them all.

        ``under_way`` tells whether the message belongs to the turn that this call goes on with.
        """
        if message.role == "assistant":
            return self.assistant_blocks(message.parts, under_way)
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        found: list[Block] = [
            {"role": "tool", "tool_call_id": self.id(part.call_id), "content": result_text(part)} for part in results
        ]
        separate: list[Part] = []
        for result in results:
            shown = [part for part in result.parts if _text_of(part) is None]
            if shown:
                separate += [Text(f"What the tool '{result.name}' returned for the call '{self.id(result.call_id)}':"), *shown]
        rest = [part for part in message.parts if not isinstance(part, ToolResult)]
        if separate or rest:
            found.append({"role": "user" if separate else message.role, "content": self.content([*separate, *rest])})
        return found

    def content(self, parts: Iterable[Part]) -> str | list[Block]:
        """Return the content of a message: one text where all of it is text, which every server reads."""
        plain = [_text_of(part) or part for part in parts]
        texts = [part for part in plain if isinstance(part, Text)]
        return joined(texts) if len(texts) == len(plain) else [_block(part) for part in plain]

    def assistant_blocks(self, parts: tuple[Part, ...], under_way: bool) -> list[Block]:
        texts = [part for part in parts if isinstance(part, Text)]
        calls = [self.call(part) for part in parts if isinstance(part, ToolCall)]
        if not texts and not calls:
            return []
        found: Block = {"role": "assistant", "content": joined(texts) if texts else None}
        for part in parts:
            if isinstance(part, Thinking) and part.opaque and part.opaque.origin == "chat":
                found |= _thoughts(part, under_way)
        return [found | ({"tool_calls": calls} if calls else {})]

    def call(self, part: ToolCall) -> Block:
        function = {"name": self.names.sent(part.name, part.namespace), "arguments": arguments_text(part)}
        return {"id": self.id(part.id), "type": "function", "function": function}

    def tool(self, tool: Tool) -> Block:
        function: Block = {"name": self.names.sent(tool.name, tool.namespace)}
        description = described(tool)
        if description:
            function["description"] = description
        function["parameters"] = schema_of(tool) if tool.kind == "custom" else for_tool(tool.schema)
        if tool.strict and is_strict(tool.schema):
            function["strict"] = True
        return {"type": "function", "function": function}

    def id(self, given: str) -> str:
        return call_id(given, "chat", self.model)


def _thoughts(part: Thinking, under_way: bool) -> Block:
    """Return the model's reasoning in the field in which the server gave it; as plain text only until the turn has ended.

    DeepSeek asks for it back between the calls of one turn and for none of earlier turns.
    """
    if part.opaque is None:
        return {}
    if part.opaque.data in ("reasoning_content", "reasoning"):
        if not under_way:
            return {}
        return {part.opaque.data: part.text if part.opaque.text is None else part.opaque.text}
    try:
        details = json.loads(part.opaque.data)
    except (ValueError, RecursionError):
        return {}
    return {"reasoning_details": details} if isinstance(details, list) else {}


def _block(part: Part) -> Block:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image("url", data) as image:
            return {"type": "image_url", "image_url": {"url": data} | _detail(image)}
        case Image("base64", data, media_type) as image:
            return {"type": "image_url", "image_url": {"url": media.data_url(media_type, data)} | _detail(image)}
        case Document("base64", data, media_type, name) if media_type.startswith("audio/"):
            return {"type": "input_audio", "input_audio": {"data": data, "format": media_type.removeprefix("audio/")}}
        case Document("base64", data, media_type, name):
            return {"type": "file", "file": {"filename": name or "file.pdf", "file_data": media.data_url(media_type, data)}}
        case _:
            raise Untranslatable("a file by its URL can't be sent to Chat Completions; send its content in base64")


def _detail(image: Image) -> Block:
    return {"detail": image.detail} if image.detail else {}
