"""Read a request of Gemini's generateContent, in either spelling of its fields, into neutral words."""

from __future__ import annotations

import re
from collections import deque
from typing import Any

from sluicegate.translation.conversation import (
    Document,
    Image,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from sluicegate.translation.opaque import unpack
from sluicegate.translation.requests import media
from sluicegate.translation.requests.fields import GENERATE_CONTENT, GENERATION_CONFIG, check
from sluicegate.translation.requests.gemini_tools import read_choice, read_tools
from sluicegate.translation.requests.schemas import from_gemini
from sluicegate.translation.requests.spelling import camel
from sluicegate.translation.requests.typed import (
    Fields,
    as_flag,
    as_number,
    as_object,
    as_one_or_more,
    as_text,
    as_texts,
    as_whole,
    dump,
    refuse,
)

_OF_GOOGLE = re.compile(r"https://generativelanguage\.googleapis\.com/|gs://", re.IGNORECASE)
_LEFT_OUT = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")


def read(body: Fields, model: str, stream: bool) -> Request:
    """Return the request; model and streaming stand in the path. Raises Untranslatable for what no other API can say."""
    fields = camel(body, "the request's body")
    config = camel(as_object(fields.get("generationConfig") or {}, "generationConfig"), "generationConfig")
    dropped = check(fields, GENERATE_CONTENT, "generate_content")
    dropped += check(config, GENERATION_CONFIG, "generate_content", "generationConfig.")
    tools, gone = read_tools(as_one_or_more(fields.get("tools"), "tools"))
    choice, tools = read_choice(fields.get("toolConfig"), tools)
    return Request(
        model=model,
        messages=(*_system(fields.get("systemInstruction")), *_contents(fields.get("contents"))),
        tools=tools,
        tool_choice=choice if tools else ToolChoice(),
        max_tokens=as_whole(config.get("maxOutputTokens"), "generationConfig.maxOutputTokens"),
        temperature=as_number(config.get("temperature"), "generationConfig.temperature"),
        top_p=as_number(config.get("topP"), "generationConfig.topP"),
        top_k=as_whole(config.get("topK"), "generationConfig.topK"),
        stop=as_texts(config.get("stopSequences"), "generationConfig.stopSequences"),
        output_format=_format(config),
        reasoning=_reasoning(config.get("thinkingConfig")),
        stream=stream,
        include_usage=True,
        seed=as_whole(config.get("seed"), "generationConfig.seed"),
        frequency_penalty=as_number(config.get("frequencyPenalty"), "generationConfig.frequencyPenalty"),
        presence_penalty=as_number(config.get("presencePenalty"), "generationConfig.presencePenalty"),
        dropped=(*dropped, *gone),
    )


def _system(value: Any) -> list[Message]:
    if value is None:
        return []
    content = {"parts": [{"text": value}]} if isinstance(value, str) else as_object(value, "systemInstruction")
    parts = as_one_or_more(content.get("parts"), "systemInstruction.parts")
    texts = [as_text(as_object(part, "systemInstruction.parts").get("text"), "systemInstruction.parts") for part in parts]
    kept = tuple(Text(text) for text in texts if text)
    return [Message("system", kept)] if kept else []


def _contents(value: Any) -> list[Message]:
    return _Contents().read(as_one_or_more(value, "contents"))


class _Contents:
    """Reads the contents; calls and results without ids are numbered, so that each result finds its call."""

    def __init__(self) -> None:
        self.calls = 0
        self.open: dict[str, str] = {}
        """Id and name of the calls that have no result yet."""
        self.waiting: dict[str, deque[str]] = {}
        """By name: ids of calls, of which those that are open wait for a result without an id."""

    def read(self, contents: list[Any]) -> list[Message]:
        found = []
        for i, item in enumerate(contents):
            where = f"contents[{i}]"
            content = as_object(item, where)
            role = content.get("role") or "user"
            if role not in ("user", "model", "function"):
                refuse(where, f"has the role {dump(role)}, which can't be translated")
            parts: list[Part] = []
            for j, part in enumerate(as_one_or_more(content.get("parts"), f"{where}.parts")):
                here = f"{where}.parts[{j}]"
                parts += self._part(camel(as_object(part, here), here), here, role == "model")
            found.append(Message("assistant" if role == "model" else "user", tuple(parts)))
        return found

    def _part(self, part: Fields, where: str, by_model: bool) -> list[Part]:
        signature = part.get("thoughtSignature")
        packed = as_text(signature, f"{where}.thoughtSignature")
        thought = Thinking("", unpack(packed) or Opaque("generate_content", packed)) if packed else None
        before: list[Part] = [thought] if thought else []
        if as_flag(part.get("thought"), f"{where}.thought"):
            return [Thinking(as_text(part.get("text"), f"{where}.text"), thought.opaque if thought else None)]
        if "functionCall" in part:
            return [*before, self._call(camel(as_object(part["functionCall"], where), where), where)]
        if "functionResponse" in part:
            return [self._response(camel(as_object(part["functionResponse"], where), where), where)]
        if "inlineData" in part or "fileData" in part:
            if by_model:
                refuse(where, "a message of the model can hold no image or file elsewhere")
            return [_media(part, where)]
        if "text" in part or part.keys() <= {"thoughtSignature"}:
            text = as_text(part.get("text"), f"{where}.text")
            return [*before, *([Text(text)] if text else [])]
        if any(name in part for name in _LEFT_OUT) and by_model:
            return []
        refuse(where, f"a part with {', '.join(part)} has no counterpart at another provider")

    def _call(self, call: Fields, where: str) -> ToolCall:
        self.calls += 1
        name = as_text(call.get("name"), f"{where}.functionCall.name")
        call_id = as_text(call.get("id"), f"{where}.functionCall.id") or f"call_{self.calls}"
        self.open[call_id] = name
        self.waiting.setdefault(name, deque()).append(call_id)
        return ToolCall(call_id, name, dump(call.get("args") if call.get("args") is not None else {}))

    def _response(self, response: Fields, where: str) -> ToolResult:
        here = f"{where}.functionResponse"
        name, given = as_text(response.get("name"), f"{here}.name"), as_text(response.get("id"), f"{here}.id")
        # Without an id, or with one that the call did not have, a result belongs to the oldest open call of its name.
        waiting = self.waiting.get(name, deque())
        while given not in self.open and waiting:
            given = waiting.popleft()
        self.open.pop(given, None)
        if not given:
            refuse(here, f"answers no call of '{name}' before it")
        returned = as_object(response.get("response") or {}, f"{here}.response")
        parts: list[Text | Image | Document] = [Text(text) for text in [_returned(returned)] if text]
        for i, item in enumerate(as_one_or_more(response.get("parts"), f"{here}.parts")):
            parts.append(_media(camel(as_object(item, here), here), f"{here}.parts[{i}]"))
        return ToolResult(given, tuple(parts), is_error="error" in returned and "output" not in returned)


def _returned(response: Fields) -> str:
    """Return what a function returned: its one usual field as it is, any other object as JSON."""
    if len(response) == 1:
        name, value = next(iter(response.items()))
        if name in ("output", "result", "error") and isinstance(value, str):
            return value
    return dump(response) if response else ""


def _media(part: Fields, where: str) -> Image | Document:
    if "inlineData" in part:
        inline = camel(as_object(part["inlineData"], where), where)
        data, media_type = as_text(inline.get("data"), f"{where}.data"), as_text(inline.get("mimeType"), f"{where}.mimeType")
        return media.inline(data, media_type, where)
    if "fileData" not in part:
        refuse(where, "holds no media that can be translated")
    file = camel(as_object(part["fileData"], where), where)
    url, media_type = as_text(file.get("fileUri"), f"{where}.fileUri"), as_text(file.get("mimeType"), f"{where}.mimeType")
    if _OF_GOOGLE.match(url):
        refuse(where, media.NO_FILE_IDS)
    kind = media_type or media.guessed_type(url, "application/pdf")
    if kind.startswith("image/"):
        return media.image_at(url, where)
    return Document("url", media.document_at(url, where).data, kind)


def _format(config: Fields) -> OutputFormat | None:
    kind = as_text(config.get("responseMimeType"), "generationConfig.responseMimeType")
    if kind in ("", "text/plain"):
        return None
    if kind != "application/json":
        refuse("generationConfig.responseMimeType", f"is {dump(kind)}, which another provider does not answer in")
    for name in ("responseJsonSchema", "_responseJsonSchema", "responseSchema"):
        if config.get(name) is not None:
            schema = as_object(config[name], f"generationConfig.{name}")
            return OutputFormat("json_schema", from_gemini(schema) if name == "responseSchema" else schema)
    return OutputFormat("json_object")


_LEVELS = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high"}


def _reasoning(value: Any) -> Reasoning | None:
    where = "generationConfig.thinkingConfig"
    config = camel(as_object(value or {}, where), where)
    shown = as_flag(config.get("includeThoughts"), f"{where}.includeThoughts") or False
    budget = as_whole(config.get("thinkingBudget"), f"{where}.thinkingBudget")
    level = as_text(config.get("thinkingLevel"), f"{where}.thinkingLevel").upper()
    if budget == 0:
        return Reasoning(off=True)
    match _LEVELS.get(level):
        case "minimal" | "low" | "medium" | "high" as effort:
            return Reasoning(effort, shown=shown)
    if level not in ("", "THINKING_LEVEL_UNSPECIFIED"):
        refuse(f"{where}.thinkingLevel", f"is {dump(level)}, which is not one of {', '.join(_LEVELS)}")
    if budget is not None and budget > 0:
        return Reasoning(budget_tokens=budget, shown=shown)
    # A budget of -1 leaves it to the model.
    return Reasoning(shown=True) if shown else None
