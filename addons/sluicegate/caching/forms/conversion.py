"""Make the other form of a kept answer, if it says all that the kept one says.

The form is changed by structure, so that members nobody here knows stay; then what both forms say is compared by the readers that
translate answers. Where anything would be lost there is no other form, and the provider is asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sluicegate.caching.forms import chat, generate_content, messages, responses
from sluicegate.caching.forms.asked import Asked, Shape
from sluicegate.caching.forms.lossless import LossyError, parse, parse_object, require
from sluicegate.calls.answer import AnswerReader
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.base import ProtocolName
from sluicegate.translation.answers.chat_writer import DONE
from sluicegate.translation.answers.framing import EVENT_STREAM, JSON, Frames, data_event, encode, is_event_stream
from sluicegate.translation.answers.grammar import Grammar
from sluicegate.translation.answers.translator import AnswerReading
from sluicegate.translation.answers.writer import Answer, CallPart, gather
from sluicegate.translation.conversation import Dialect
from sluicegate.translation.events import Finished
from sluicegate.translation.names import ToolNames
from sluicegate.values import Usage

MAX_BYTES = 1 << 20
"""The longest answer that is given in another form: it takes some tenths of a second of a thread."""

_WHOLES: Mapping[Dialect, Callable[[Iterable[dict[str, Any]]], dict[str, Any]]] = {
    "messages": messages.as_whole,
    "chat": chat.as_whole,
    "responses": responses.as_whole,
    "generate_content": generate_content.as_whole,
}


_PROTOCOLS: Mapping[Dialect, ProtocolName] = {
    "messages": "anthropic",
    "chat": "openai",
    "responses": "openai",
    "generate_content": "gemini",
}


def shape_of(body: bytes) -> Shape:
    """Return the form of an answer."""
    if is_event_stream(body):
        return "events"
    return "list" if body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") else "whole"


def fits(body: bytes, asked: Asked) -> bool:
    """Return whether an answer is in the form that a call asks for."""
    # Whether a stream of Chat Completions has a chunk for its usage is only seen by reading it.
    return asked.dialect is None or (shape_of(body) == asked.shape and (asked.dialect, asked.has_usage) != ("chat", False))


def content_type(shape: Shape) -> str:
    """Return the content type of a form."""
    return EVENT_STREAM if shape == "events" else JSON


def converted(body: bytes, asked: Asked) -> bytes | None:
    """Return an answer in the form that a call asks for; None if it cannot be without loss."""
    if asked.dialect is None or len(body) > MAX_BYTES:
        return None
    try:
        made = _made(body, asked.dialect, asked)
        require(_content_of(asked.dialect, body) == _content_of(asked.dialect, made), "the other form says something else")
        is_billed_alike = not asked.has_usage or usage_in(asked.dialect, body) == usage_in(asked.dialect, made)
        require(is_billed_alike, "the other form is billed otherwise")
    except (LossyError, RecursionError):
        return None
    return made


def _made(body: bytes, dialect: Dialect, asked: Asked) -> bytes:
    shape = shape_of(body)
    if shape == "whole":
        if asked.shape == "whole":
            return body
        return _stream_of(parse_object(body), dialect, asked)
    chunks = _chunks(body)
    if asked.shape == "whole":
        return encode(_WHOLES[dialect](chunks))
    if dialect == "generate_content":
        return _written(chunks, asked.shape)
    require(dialect == "chat", "no other stream of this answer")
    shown = [chunk for chunk in chunks if chunk.get("choices") or not chunk.get("usage")]
    return b"".join(map(data_event, shown)) + DONE


def _stream_of(whole: dict[str, Any], dialect: Dialect, asked: Asked) -> bytes:
    if dialect == "generate_content":
        return _written([whole], asked.shape)
    if dialect == "chat":
        return b"".join(chat.as_stream(whole, has_usage=asked.has_usage))
    return b"".join(messages.as_stream(whole) if dialect == "messages" else responses.as_stream(whole))


def _written(chunks: list[dict[str, Any]], shape: Shape) -> bytes:
    """Return chunks of Gemini's as events or as a list."""
    if shape == "events":
        return b"".join(map(data_event, chunks))
    return b"[" + b",\r\n".join(map(encode, chunks)) + b"\n]\n"


def _chunks(body: bytes) -> list[dict[str, Any]]:
    """Return the objects of a stream."""
    frames = Frames()
    found = [*frames.feed(body), *frames.flush()]
    if frames.form == "list":
        values = parse(body.removeprefix(b"\xef\xbb\xbf"))
        require(isinstance(values, list) and all(isinstance(value, dict) for value in values), "not a list of chunks")
        return list(values)
    return [parse_object(data) for name, data in found if data.strip() != b"[DONE]" and not (name == "ping" and not data)]


def usage_in(dialect: Dialect, body: bytes) -> Usage | None:
    """Return what an answer of any form used, as the meter reads it."""
    shape = shape_of(body)
    reader = AnswerReader(PROTOCOLS[_PROTOCOLS[dialect]].usage_reader(), "", content_type(shape))
    reader.feed(body)
    return reader.finish().usage


def _content_of(dialect: Dialect, body: bytes) -> tuple[object, ...]:
    """Return what an answer says in any form of it, by the reader that translates it. Raises LossyError for one that has failed."""
    reading = AnswerReading(dialect, Grammar(ToolNames(dialect), "", lambda: 0))
    events = reading.whole(body) if shape_of(body) == "whole" else [*reading.feed(body), *reading.end()]
    answer: Answer = gather(event for event in events if event is not None)
    ending = answer.ending
    if not isinstance(ending, Finished):
        raise LossyError("an answer that has not ended well")
    parts = [(part.call, _arguments(part.arguments)) if isinstance(part, CallPart) else part for part in answer.parts]
    return answer.started.id, answer.started.model, parts, ending.reason, ending.stop_sequence


def _arguments(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
