"""Write a request of OpenAI's Responses API from neutral words. Nothing is stored: each request holds all of the conversation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sluicegate.translation.conversation import (
    Document,
    Image,
    Message,
    Part,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Untranslatable,
)
from sluicegate.translation.names import ToolNames
from sluicegate.translation.requests import media
from sluicegate.translation.requests.chat_writer import FAILED, choice_fields, effort_for, schema_fields
from sluicegate.translation.requests.custom_tools import arguments_text
from sluicegate.translation.requests.models import OpenAIModel, openai_model
from sluicegate.translation.requests.pairing import call_id, joined, split_system
from sluicegate.translation.requests.schemas import for_tool, is_strict

type Block = dict[str, Any]

MIN_OUTPUT_TOKENS = 16
"""The least limit of an answer that the API takes."""


def write(request: Request, names: ToolNames) -> Block:
    """Return the body. Raises Untranslatable for what the API cannot say."""
    takes = openai_model(request.model)
    system, rest = split_system(request.messages)
    body: Block = {"model": request.model}
    if system:
        body["instructions"] = joined(system)
    writer = _Writer(request, names)
    body["input"] = [item for message in rest for item in writer.items(message)]
    if not body["input"] and not system:
        raise Untranslatable("messages: holds nothing for the model; send at least one message")
    if request.tools:
        body["tools"] = [writer.tool(tool) for tool in request.tools]
        body |= _choice(request, names)
    if request.max_tokens is not None:
        body["max_output_tokens"] = max(min(request.max_tokens, takes.max_tokens), MIN_OUTPUT_TOKENS)
    if not takes.reasons:
        pairs = {"temperature": request.temperature, "top_p": request.top_p}
        body |= {name: value for name, value in pairs.items() if value is not None}
    body |= _reasoning(request, takes)
    text = _text(request, takes)
    if text:
        body["text"] = text
    if request.cache_key:
        body["prompt_cache_key"] = request.cache_key
    body["store"] = False
    body["stream"] = request.stream
    return body


def _choice(request: Request, names: ToolNames) -> Block:
    found = choice_fields(request.tool_choice, names, "")
    chosen = request.tool_choice.name
    if request.tool_choice.mode == "tool" and any(tool.kind == "custom" and tool.name == chosen for tool in request.tools):
        found["tool_choice"]["type"] = "custom"
    return found


def _reasoning(request: Request, takes: OpenAIModel) -> Block:
    if not takes.reasons:
        return {}
    found: Block = {}
    effort = effort_for(request, takes)
    if effort:
        found["effort"] = effort
    if request.reasoning and request.reasoning.shown:
        found["summary"] = "auto"
    # Encrypted, the reasoning comes back with the next turn although nothing is stored.
    return ({"reasoning": found} if found else {}) | {"include": ["reasoning.encrypted_content"]}


def _text(request: Request, takes: OpenAIModel) -> Block:
    found: Block = {}
    form = request.output_format
    if form:
        found["format"] = {"type": form.kind} | (schema_fields(form) if form.kind == "json_schema" else {})
    if request.verbosity and takes.reasons:
        found["verbosity"] = request.verbosity
    return found


class _Writer:
    def __init__(self, request: Request, names: ToolNames) -> None:
        self.names = names
        self.model = request.model

    def items(self, message: Message) -> list[Block]:
        """Return the items of a message: texts and media together, everything else an item of its own, in order."""
        found: list[Block] = []
        shown: list[Part] = []
        for part in message.parts:
            if isinstance(part, Text | Image | Document):
                shown.append(part)
                continue
            item = self.item(part)
            if item:
                found += [*self.message(message, shown), item]
                shown = []
        return [*found, *self.message(message, shown)]

    @staticmethod
    def message(message: Message, parts: Iterable[Part]) -> list[Block]:
        """Return the texts and media of a message; what the model said as plain texts, for its parts would need ids."""
        if message.role == "assistant":
            return [{"type": "message", "role": "assistant", "content": part.text} for part in parts if isinstance(part, Text)]
        content = [_block(part) for part in parts]
        role = "developer" if message.role == "system" else message.role
        return [{"type": "message", "role": role, "content": content}] if content else []

    def item(self, part: Part) -> Block | None:
        match part:
            case Thinking(text, opaque):
                if opaque is None or opaque.origin != "responses":
                    return None
                shown = text if opaque.text is None else opaque.text
                summary = [{"type": "summary_text", "text": shown}] if shown else []
                named = {"id": opaque.id} if opaque.id else {}
                return {"type": "reasoning", **named, "summary": summary, "encrypted_content": opaque.data}
            case ToolCall():
                begin = {"type": "custom_tool_call" if part.kind == "custom" else "function_call", "call_id": self.id(part.id)}
                name = self.names.sent(part.name, part.namespace)
                given = {"input": part.arguments} if part.kind == "custom" else {"arguments": arguments_text(part)}
                return {**begin, "name": name, **given}
            case ToolResult():
                kind = "custom_tool_call_output" if part.kind == "custom" else "function_call_output"
                return {"type": kind, "call_id": self.id(part.call_id), "output": _output(part)}
        return None

    def tool(self, tool: Tool) -> Block:
        found: Block = {"type": tool.kind, "name": self.names.sent(tool.name, tool.namespace)}
        if tool.description:
            found["description"] = tool.description
        if tool.kind == "custom":
            syntax, definition = tool.grammar or ("", "")
            grammar = {"type": "grammar", "syntax": syntax, "definition": definition}
            return found | {"format": grammar if tool.grammar else {"type": "text"}}
        return found | {"parameters": for_tool(tool.schema), "strict": bool(tool.strict and is_strict(tool.schema))}

    def id(self, given: str) -> str:
        return call_id(given, "responses", self.model)


def _output(part: ToolResult) -> str | list[Block]:
    texts = [inner for inner in part.parts if isinstance(inner, Text)]
    if len(texts) == len(part.parts):
        return (FAILED if part.is_error else "") + joined(texts)
    failed = [Text(FAILED)] if part.is_error else []
    return [_block(inner) for inner in (*failed, *part.parts)]


def _block(part: Part) -> Block:
    match part:
        case Text(text):
            return {"type": "input_text", "text": text}
        case Image() as image:
            url = image.data if image.source == "url" else media.data_url(image.media_type, image.data)
            return {"type": "input_image", "image_url": url, "detail": image.detail or "auto"}
        case Document("url", data):
            return {"type": "input_file", "file_url": data}
        case Document() as document:
            plain = media.as_text(document)
            if plain:
                return {"type": "input_text", "text": plain.text}
            if document.media_type.startswith(("audio/", "video/")):
                raise Untranslatable(f"a file of the type '{document.media_type}' can't be sent to the Responses API")
            url = media.data_url(document.media_type, document.data)
            return {"type": "input_file", "filename": document.name or "file.pdf", "file_data": url}
        case _:
            raise TypeError(part)
