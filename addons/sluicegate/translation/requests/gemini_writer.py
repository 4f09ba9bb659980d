"""Write a request of Gemini's generateContent from neutral words."""

from __future__ import annotations

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
from sluicegate.translation.requests.custom_tools import arguments_of, described, schema_of
from sluicegate.translation.requests.effort import budget_of, effort_of, nearest, within
from sluicegate.translation.requests.gemini_schema import for_gemini
from sluicegate.translation.requests.models import Gemini, gemini
from sluicegate.translation.requests.pairing import alternating, joined, split_system
from sluicegate.translation.requests.stops import sent_stops

type Block = dict[str, Any]

UNSIGNED = "skip_thought_signature_validator"
"""Google's word, in the place of a signature, for a call that another model made: Gemini 3 refuses one without."""


def write(request: Request, names: ToolNames) -> Block:
    """Return the body; the model stands in the path. Raises Untranslatable for what the API cannot say."""
    takes = gemini(request.model)
    system, rest = split_system(request.messages)
    messages = alternating(message for message in map(_without_foreign_thoughts, rest) if message.parts)
    if not messages:
        raise Untranslatable("messages: holds nothing for the model; send at least one message")
    writer = _Writer(takes, names)
    body: Block = {}
    if system:
        body["systemInstruction"] = {"parts": [{"text": text.text} for text in system]}
    body["contents"] = [writer.content(message) for message in messages]
    if request.tools:
        body["tools"] = [{"functionDeclarations": [writer.tool(tool) for tool in request.tools]}]
        body |= _choice(request.tool_choice, names)
    config = _sampling(request, takes) | _format(request.output_format)
    thinking = _thinking(request, takes)
    if thinking:
        config["thinkingConfig"] = thinking
    if config:
        body["generationConfig"] = config
    return body


def _without_foreign_thoughts(message: Message) -> Message:
    kept = [
        part
        for part in message.parts
        if not isinstance(part, Thinking) or (part.opaque and part.opaque.origin == "generate_content")
    ]
    return Message(message.role, tuple(kept))


def _sampling(request: Request, takes: Gemini) -> Block:
    limit = request.max_tokens
    pairs: Block = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "maxOutputTokens": None if limit is None else min(limit, takes.max_tokens),
        "stopSequences": list(sent_stops(request.stop, "generate_content", request.model)) or None,
        "seed": request.seed,
        "presencePenalty": request.presence_penalty,
        "frequencyPenalty": request.frequency_penalty,
    }
    return {name: value for name, value in pairs.items() if value is not None}


def _format(form: OutputFormat | None) -> Block:
    if form is None:
        return {}
    found: Block = {"responseMimeType": "application/json"}
    return found | ({"responseSchema": for_gemini(form.schema)} if form.kind == "json_schema" else {})


def _thinking(request: Request, takes: Gemini) -> Block:
    asked = request.reasoning
    if asked is None or not takes.thinking:
        return {}
    found: Block = {"includeThoughts": True} if asked.shown and not asked.off else {}
    if takes.thinking == "level":
        effort = takes.levels[0] if asked.off else effort_of(asked)
        if effort == "medium" and effort not in takes.levels:
            # As Google itself reads OpenAI's medium on the first Gemini 3 Pro, which has two levels.
            effort = "high"
        return found | ({"thinkingLevel": nearest(effort, takes.levels).upper()} if effort else {})
    budget = 0 if asked.off else budget_of(asked)
    if budget is None:
        return found
    budget = within(budget, request.max_tokens)
    return found | {"thinkingBudget": min(max(budget, takes.least_budget_tokens), takes.most_budget_tokens)}


def _choice(choice: ToolChoice, names: ToolNames) -> Block:
    match choice.mode:
        case "auto":
            return {}
        case "none":
            calling: Block = {"mode": "NONE"}
        case "required":
            calling = {"mode": "ANY"}
        case "tool":
            calling = {"mode": "ANY", "allowedFunctionNames": [names.sent(choice.name, choice.namespace)]}
    return {"toolConfig": {"functionCallingConfig": calling}}


class _Writer:
    def __init__(self, takes: Gemini, names: ToolNames) -> None:
        self.takes = takes
        self.names = names

    def content(self, message: Message) -> Block:
        parts = self.model_parts(message.parts) if message.role == "assistant" else self.sent(message.parts)
        return {"role": "model" if message.role == "assistant" else "user", "parts": parts}

    def model_parts(self, parts: Iterable[Part]) -> list[Block]:
        """Return the model's parts. A signature belongs to the part after it, or to an empty text at the end."""
        found: list[Block] = []
        signature, called = "", False
        for part in parts:
            if isinstance(part, Thinking):
                signature = part.opaque.data if part.opaque else ""
                continue
            if isinstance(part, ToolCall):
                block: Block = {"functionCall": {"name": self.names.sent(part.name, part.namespace), "args": arguments_of(part)}}
                if not signature and not called and self.takes.signs_calls:
                    signature = UNSIGNED
                called = True
            else:
                block = _block(part)
            found.append(block | ({"thoughtSignature": signature} if signature else {}))
            signature = ""
        return [*found, {"text": "", "thoughtSignature": signature}] if signature else found

    def sent(self, parts: tuple[Part, ...]) -> list[Block]:
        """Return the user's parts: results of tools first, then the media they hold, then everything else."""
        results = [part for part in parts if isinstance(part, ToolResult)]
        found = [self.result(part) for part in results]
        for result in results:
            shown = [part for part in result.parts if _text_of(part) is None]
            if shown:
                found += [{"text": f"What the tool '{result.name}' returned:"}, *map(_block, shown)]
        return [*found, *(_block(part) for part in parts if not isinstance(part, ToolResult))]

    def result(self, part: ToolResult) -> Block:
        text = joined(text for inner in part.parts if (text := _text_of(inner)))
        response = {"error" if part.is_error else "output": text}
        return {"functionResponse": {"name": self.names.sent(part.name, part.namespace), "response": response}}

    def tool(self, tool: Tool) -> Block:
        found: Block = {"name": self.names.sent(tool.name, tool.namespace)}
        description = described(tool)
        if description:
            found["description"] = description
        schema = for_gemini(schema_of(tool) if tool.kind == "custom" else {"type": "object", **tool.schema})
        # Gemini refuses an object without properties here; a function without parameters has none.
        return found | ({"parameters": schema} if schema.get("properties") else {})


def _text_of(part: Part) -> Text | None:
    return media.as_text(part) if isinstance(part, Document) else part if isinstance(part, Text) else None


def _block(part: Part) -> Block:
    text = _text_of(part)
    if text:
        return {"text": text.text}
    if not isinstance(part, Image | Document):
        raise TypeError(part)
    if part.source == "base64":
        return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
    otherwise = "image/jpeg" if isinstance(part, Image) else "application/pdf"
    return {"fileData": {"mimeType": part.media_type or media.guessed_type(part.data, otherwise), "fileUri": part.data}}
