"""Translate one request: read the client's dialect, put the conversation in order, write the target's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import quote, unquote

from sluicegate.translation.context import AnswerContext, TranslatedRequest
from sluicegate.translation.conversation import DIALECT_WORDS, Dialect, Message, Request, Text, ToolChoice, Untranslatable
from sluicegate.translation.names import ToolName, ToolNames
from sluicegate.translation.requests import (
    chat_reader,
    chat_writer,
    gemini_reader,
    gemini_writer,
    messages_reader,
    messages_writer,
    responses_reader,
    responses_writer,
)
from sluicegate.translation.requests.pairing import arrange
from sluicegate.translation.requests.stops import applied_stops
from sluicegate.translation.requests.typed import Fields, encoded, parse

ANTHROPIC_VERSION = "2023-06-01"

_READERS: Mapping[Dialect, Callable[[Fields], Request]] = {
    "messages": messages_reader.read,
    "chat": chat_reader.read,
    "responses": responses_reader.read,
}
_WRITERS: Mapping[Dialect, Callable[[Request, ToolNames], dict[str, Any]]] = {
    "messages": messages_writer.write,
    "chat": chat_writer.write,
    "responses": responses_writer.write,
    "generate_content": gemini_writer.write,
}
_PATHS: Mapping[Dialect, str] = {"messages": "/v1/messages", "chat": "/v1/chat/completions", "responses": "/v1/responses"}
_GEMINI_PATH = re.compile(r"\A(?:(?!/models/).)*/models/([^:?]+):(stream)?[gG]enerateContent(\?.*)?\Z")
_ANSWERS_AGAIN = frozenset({"chat", "responses"})
"""Dialects in which the model answers anew after a message of its own; in the others it goes on with that message."""


def translate(body: bytes, path: str, source: Dialect, target: Dialect, model: str) -> TranslatedRequest:
    """Return the request for ``model`` in the target's dialect; the same input gives the same bytes.

    ``path`` is the client's, with its query. Raises Untranslatable, and nothing else, for what the target cannot say.
    """
    try:
        return _translate(body, path, source, target, model)
    except RecursionError:
        raise Untranslatable("the request's body is nested too deeply") from None


def _translate(body: bytes, path: str, source: Dialect, target: Dialect, model: str) -> TranslatedRequest:
    fields = parse(body)
    request, form = read(fields, path, source)
    request = replace(request, messages=arrange(request.messages))
    names = ToolNames(target)
    for tool in request.tools:
        names.declare(ToolName(tool.name, tool.namespace, tool.kind))
    return TranslatedRequest(
        path=path_of(target, model, request.stream),
        body=encoded(write(replace(_ended(request, source, target), model=model), target, names)),
        headers=headers_of(target),
        context=AnswerContext(request, model, names, form, applied_stops(request.stop, target, model), fields),
    )


def read(fields: Fields, path: str, source: Dialect) -> tuple[Request, Literal["", "sse", "json"]]:
    """Return a client's request in neutral words, and how it asks for its answer."""
    if source != "generate_content":
        endpoint = path.partition("?")[0]
        if not endpoint.endswith(_PATHS[source].removeprefix("/v1")):
            raise Untranslatable(f"'{endpoint}' can't be translated for another provider; choose a model of the API's own")
        request = _READERS[source](fields)
        return _checked(request), "sse" if request.stream else ""
    named = _GEMINI_PATH.search(path)
    if not named:
        raise Untranslatable(f"the path '{path}' is neither generateContent nor streamGenerateContent")
    stream = named[2] is not None
    events = re.search(r"[?&](?:\$|%24)?alt=sse(?:&|\Z)", named[3] or "") is not None
    request = gemini_reader.read(fields, unquote(named[1]), stream)
    return _checked(request), "" if not stream else "sse" if events else "json"


def _checked(request: Request) -> Request:
    """Return a request whose choice of tools is one of its tools'."""
    choice = request.tool_choice
    if not request.tools:
        return replace(request, tool_choice=ToolChoice())
    if choice.mode == "tool" and not any(tool.name == choice.name for tool in request.tools):
        raise Untranslatable(f"tool_choice: names '{choice.name}', which is not one of the request's tools")
    return request


def _ended(request: Request, source: Dialect, target: Dialect) -> Request:
    """Return a request whose end means the same to the target. Raises Untranslatable for an answer that is to be continued."""
    if not request.messages or request.messages[-1].role != "assistant" or {source, target} <= _ANSWERS_AGAIN:
        return request
    if source in _ANSWERS_AGAIN:
        return replace(request, messages=(*request.messages, Message("user", (Text("Continue."),))))
    raise Untranslatable(
        "messages: the last one is the model's own, to be continued, which"
        f" {DIALECT_WORDS[target]} can't promise as {DIALECT_WORDS[source]} does; end with a message of the user"
    )


def write(request: Request, target: Dialect, names: ToolNames) -> dict[str, Any]:
    """Return the body of a request in the target's dialect. Its conversation must be in order, as ``arrange`` makes it."""
    return _WRITERS[target](request, names)


def path_of(target: Dialect, model: str, stream: bool) -> str:
    """Return the path of a call, with its query."""
    if target != "generate_content":
        return _PATHS[target]
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/v1beta/models/{quote(model.removeprefix('models/'), safe='')}:{method}"


def headers_of(target: Dialect) -> tuple[tuple[str, str], ...]:
    """Return the headers that the dialect asks for, besides the credential."""
    version = (("anthropic-version", ANTHROPIC_VERSION),) if target == "messages" else ()
    return (("content-type", "application/json"), *version)
