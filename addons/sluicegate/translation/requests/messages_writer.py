"""Write a request of Anthropic's Messages API from neutral words."""

from __future__ import annotations

from typing import Any

from sluicegate.translation.conversation import (
    CacheMark,
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
    ToolResult,
    Untranslatable,
)
from sluicegate.translation.names import ToolNames
from sluicegate.translation.requests import media
from sluicegate.translation.requests.custom_tools import arguments_of, described, schema_of
from sluicegate.translation.requests.effort import budget_of, effort_of, nearest, within
from sluicegate.translation.requests.models import DEFAULT_MAX_TOKENS, Claude, claude
from sluicegate.translation.requests.pairing import alternating, call_id, split_system
from sluicegate.translation.requests.schemas import for_anthropic_answer, for_tool
from sluicegate.translation.requests.stops import sent_stops
from sluicegate.translation.requests.typed import dump

type Block = dict[str, Any]

MAX_CACHE_MARKS = 4
MIN_BUDGET_TOKENS = 1024

JSON_ONLY = "Answer with one JSON object and nothing else."
"""For a client that asks for some JSON object, for which Anthropic has no field."""

_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})


def write(request: Request, names: ToolNames) -> Block:
    """Return the body. Raises Untranslatable for what the API cannot say."""
    takes = claude(request.model)
    system, rest = split_system(request.messages)
    messages = alternating(message for message in map(_visible, rest) if message.parts)
    if not messages:
        raise Untranslatable("messages: holds no text for the model; send at least one message that is not blank")
    writer = _Writer(request, names)
    body: Block = {"model": request.model, "max_tokens": _limit(request, takes)}
    blocks = [writer.text(text) for text in system if text.text.strip()]
    blocks += [{"type": "text", "text": text} for text in _format_instructions(request.output_format, takes)]
    if blocks:
        body["system"] = blocks
    body["messages"] = [writer.message(message) for message in messages]
    if request.tools:
        body["tools"] = [writer.tool(tool) for tool in request.tools]
        body |= _choice(request, names)
    thinking = _thinking(request, takes, messages, body["max_tokens"])
    body |= thinking
    if takes.samples and "thinking" not in thinking:
        body |= _sampling(request)
    if request.output_format and request.output_format.kind == "json_schema" and takes.takes_schema:
        form = {"type": "json_schema", "schema": for_anthropic_answer(request.output_format.schema)}
        body["output_config"] = {**body.get("output_config", {}), "format": form}
    stop = sent_stops(request.stop, "messages", request.model)
    if stop:
        body["stop_sequences"] = list(stop)
    body["stream"] = request.stream
    _mark_caches(body)
    return body


def _format_instructions(form: OutputFormat | None, takes: Claude) -> list[str]:
    """Return the form of the answer in words, where the model has no field for it."""
    if form is None or (form.kind == "json_schema" and takes.takes_schema):
        return []
    return [f"{JSON_ONLY} It follows this JSON schema:\n{dump(dict(form.schema))}" if form.kind == "json_schema" else JSON_ONLY]


def _visible(message: Message) -> Message:
    """Return a message without texts of blanks and without thinking that Anthropic did not sign, both of which it refuses."""
    return Message(message.role, tuple(part for part in message.parts if not _is_refused(part)))


def _is_refused(part: Part) -> bool:
    if isinstance(part, Text):
        return not part.text.strip()
    return isinstance(part, Thinking) and (part.opaque is None or part.opaque.origin != "messages")


def _limit(request: Request, takes: Claude) -> int:
    return min(request.max_tokens or DEFAULT_MAX_TOKENS, takes.max_tokens)


def _sampling(request: Request) -> Block:
    found: Block = {}
    if request.temperature is not None:
        # Anthropic's scale ends at 1 where others' end at 2; of temperature and top_p it takes one.
        found["temperature"] = min(request.temperature, 1)
    elif request.top_p is not None:
        found["top_p"] = request.top_p
    if request.top_k is not None:
        found["top_k"] = request.top_k
    return found


def _choice(request: Request, names: ToolNames) -> Block:
    choice = request.tool_choice
    kinds = {"auto": "auto", "none": "none", "required": "any", "tool": "tool"}
    found: Block = {"type": kinds[choice.mode]}
    if choice.mode == "tool":
        found["name"] = names.sent(choice.name, choice.namespace)
    if choice.parallel is False and choice.mode != "none":
        found["disable_parallel_tool_use"] = True
    return {} if found == {"type": "auto"} else {"tool_choice": found}


def _thinking(request: Request, takes: Claude, messages: list[Message], max_tokens: int) -> Block:
    """Return the fields that make the model think, as far as the conversation allows it."""
    asked = request.reasoning
    # Anthropic refuses thinking where a tool is forced.
    if asked is None or asked.off or not takes.thinking or request.tool_choice.mode in ("required", "tool"):
        return {}
    if takes.thinking == "adaptive":
        effort = effort_of(asked)
        found: Block = {"thinking": {"type": "adaptive", **({"display": "summarized"} if asked.shown else {})}}
        return found | ({"output_config": {"effort": nearest(effort, takes.efforts)}} if effort else {})
    budget = within(budget_of(asked) or 0, max_tokens)
    if budget < MIN_BUDGET_TOKENS or not _may_think(messages):
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _may_think(messages: list[Message]) -> bool:
    """Whether the turn under way begins with signed thinking, which these models ask for while tools are being called."""
    if not any(isinstance(part, ToolResult) for part in messages[-1].parts):
        return True
    begin = len(messages) - 1
    while begin > 0 and any(isinstance(part, ToolResult) for part in messages[begin].parts):
        begin -= 2
    return isinstance(_thinking_first(messages[begin + 1].parts)[0], Thinking)


def _thinking_first(parts: tuple[Part, ...]) -> list[Part]:
    """Return the parts of the model's message, thinking at the beginning, as Anthropic asks for."""
    if not parts or isinstance(parts[0], Thinking):
        return list(parts)
    return sorted(parts, key=lambda part: not isinstance(part, Thinking))


class _Writer:
    def __init__(self, request: Request, names: ToolNames) -> None:
        self.names = names
        self.model = request.model

    def message(self, message: Message) -> Block:
        parts = _thinking_first(message.parts) if message.role == "assistant" else message.parts
        return {"role": message.role, "content": [self.block(part) for part in parts]}

    def block(self, part: Part) -> Block:
        match part:
            case Text():
                return self.text(part)
            case Image() | Document():
                return _media(part)
            case Thinking(text, opaque) if opaque:
                if opaque.redacted:
                    return {"type": "redacted_thinking", "data": opaque.data}
                return {"type": "thinking", "thinking": text if opaque.text is None else opaque.text, "signature": opaque.data}
            case ToolCall():
                name = self.names.sent(part.name, part.namespace)
                found = {"type": "tool_use", "id": self.id(part.id), "name": name, "input": arguments_of(part)}
                return found | _mark(part.cache)
            case ToolResult():
                return self.result(part)
        raise TypeError(part)

    def result(self, part: ToolResult) -> Block:
        content = [self.block(inner) for inner in part.parts if not (isinstance(inner, Text) and not inner.text.strip())]
        found: Block = {"type": "tool_result", "tool_use_id": self.id(part.call_id)}
        if content:
            found["content"] = content
        if part.is_error:
            found["is_error"] = True
        return found | _mark(part.cache)

    def id(self, given: str) -> str:
        return call_id(given, "messages", self.model)

    @staticmethod
    def text(part: Text) -> Block:
        return {"type": "text", "text": part.text} | _mark(part.cache)

    def tool(self, tool: Tool) -> Block:
        found: Block = {"name": self.names.sent(tool.name, tool.namespace)}
        description = described(tool)
        if description:
            found["description"] = description
        found["input_schema"] = schema_of(tool) if tool.kind == "custom" else for_tool(tool.schema)
        return found | _mark(tool.cache)


def _media(part: Image | Document) -> Block:
    if isinstance(part, Document):
        content = media.content_of(part)
        if content is not None:
            source = {"type": "text", "media_type": "text/plain", "data": content}
        elif part.source == "base64" and part.media_type != "application/pdf":
            raise Untranslatable(f"a file of the type '{part.media_type}' can't be sent to Anthropic; send text, a PDF or an image")
        else:
            source = _source(part)
        return {"type": "document", "source": source} | ({"title": part.name} if part.name else {}) | _mark(part.cache)
    if part.source == "base64" and part.media_type not in _IMAGES:
        raise Untranslatable(f"an image of the type '{part.media_type}' can't be sent to Anthropic; send JPEG, PNG, GIF or WebP")
    return {"type": "image", "source": _source(part)} | _mark(part.cache)


def _source(part: Image | Document) -> Block:
    if part.source == "url":
        return {"type": "url", "url": part.data}
    return {"type": "base64", "media_type": part.media_type, "data": part.data}


def _mark(cache: CacheMark) -> Block:
    if not cache:
        return {}
    return {"cache_control": {"type": "ephemeral"} if cache == "5m" else {"type": "ephemeral", "ttl": "1h"}}


def _mark_caches(body: Block) -> None:
    """Mark where prompt caches end, for clients of APIs that cache without being asked; else keep the client's last marks.

    Only a call with tools is marked: an agent's next call repeats it, and a cache that nobody reads costs more than none.
    """
    places = [*body.get("tools", ()), *body.get("system", ())]
    places += [block for message in body["messages"] for block in message["content"]]
    marked = [block for block in places if "cache_control" in block]
    for block in marked[:-MAX_CACHE_MARKS]:
        del block["cache_control"]
    if marked or "tools" not in body:
        return
    ends = [body["system"][-1]] if "system" in body else [body["tools"][-1]]
    last = body["messages"][-1]["content"][-1]
    for block in (*ends, *([last] if last["type"] not in ("thinking", "redacted_thinking") else [])):
        block["cache_control"] = {"type": "ephemeral"}
