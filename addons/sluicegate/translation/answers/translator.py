"""Translate one answer: the target's bytes in, the client's bytes out, by events that are in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from sluicegate.providers.answers.usage_reader import parse_json
from sluicegate.translation.answers.chat_reader import ChatReader
from sluicegate.translation.answers.chat_writer import ChatWriter
from sluicegate.translation.answers.errors import reworded_error, write_error
from sluicegate.translation.answers.framing import JSON, PING, Frames, encode, is_event_stream
from sluicegate.translation.answers.gemini_reader import GeminiReader
from sluicegate.translation.answers.gemini_writer import GeminiWriter
from sluicegate.translation.answers.grammar import Grammar
from sluicegate.translation.answers.messages_reader import MessagesReader
from sluicegate.translation.answers.messages_writer import MessagesWriter
from sluicegate.translation.answers.reader import AnswerReader, dict_of, dicts_in, failed
from sluicegate.translation.answers.responses_reader import ResponsesReader
from sluicegate.translation.answers.responses_writer import ResponsesWriter
from sluicegate.translation.answers.stop_sequences import StopSequences
from sluicegate.translation.answers.writer import AnswerWriter, Setting, gather
from sluicegate.translation.context import AnswerContext
from sluicegate.translation.conversation import Dialect
from sluicegate.translation.estimate import estimate_tokens
from sluicegate.translation.events import Event, Failed, Finished

READERS: Mapping[Dialect, Callable[[], AnswerReader]] = {
    "messages": MessagesReader,
    "chat": ChatReader,
    "responses": ResponsesReader,
    "generate_content": GeminiReader,
}

WRITERS: Mapping[Dialect, Callable[[Setting], AnswerWriter]] = {
    "messages": MessagesWriter,
    "chat": ChatWriter,
    "responses": ResponsesWriter,
    "generate_content": GeminiWriter,
}

NOT_JSON = "The provider's answer is not JSON."

_LONG_NUMBER = re.compile(rb"[0-9]{19}")
"""Digits of a number that may have more than 64 bits."""


def _parse(data: bytes) -> Any:
    """Return a JSON value with every number as it is written, since a tool's argument may be one; None if it is none."""
    if _LONG_NUMBER.search(data) is not None:
        # The usual parser rounds what has more than 64 bits.
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    return parse_json(data)


class AnswerReading:
    """Read an answer's bytes into events that are in order, wherever the bytes were split."""

    def __init__(self, dialect: Dialect, grammar: Grammar) -> None:
        self._reader = READERS[dialect]()
        self._grammar = grammar
        self._frames = Frames()

    def feed(self, data: bytes) -> list[Event | None]:
        """Return the events that these bytes complete; None stands for a ping."""
        return [event for frame in self._frames.feed(data) for event in self._read(*frame)]

    def end(self) -> list[Event | None]:
        """Return the events with which the stream ends, be it complete or not."""
        events: list[Event | None] = []
        is_document = self._frames.form == "document"
        for frame in self._frames.flush():
            events += self.whole(frame[1]) if is_document else self._read(*frame)
        return [*events, *self._grammar.take(self._reader.end())]

    def whole(self, body: bytes) -> list[Event]:
        """Return the events of an answer that is not streamed."""
        value = _parse(body)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            # Gemini's list of chunks, from a server that streams whatever it was asked for.
            found = [event for chunk in value if isinstance(chunk, dict) for event in self._guarded(self._reader.read, "", chunk)]
            return self._grammar.take([*found, *self._reader.end()])
        if not isinstance(value, dict):
            return self._grammar.take([Failed(502, "server", NOT_JSON)])
        if not any(value.get(name) is not None for name in self._reader.body_names):
            return self._grammar.take([failed(value)])
        return self._grammar.take(self._guarded(lambda _, v: self._reader.whole(v), "", value))

    def _read(self, name: str, data: bytes) -> list[Event | None]:
        if (name, data) == PING or name == "ping":
            return [None]
        if data.strip() == b"[DONE]":
            return [*self._grammar.take(self._reader.done())]
        value = _parse(data)
        # Some of Gemini's servers send an error as a list of one.
        values = dicts_in(value) if isinstance(value, list) else [dict_of(value)]
        return [event for v in values for event in self._grammar.take(self._guarded(self._reader.read, name, v))]

    def _guarded(self, read: Callable[[str, dict[str, Any]], Iterable[Event]], name: str, value: dict[str, Any]) -> Iterable[Event]:
        """Return what a reader finds in a value, however deep that is nested."""
        try:
            return list(read(name, value))
        except RecursionError:
            return [Failed(502, "server", "The provider's answer is nested too deeply.")]


class AnswerTranslator:
    """Translate the answer to one call, streamed or not. Nothing a provider sends makes it raise.

    ``source`` is the client's dialect, ``target`` the provider's. ``answer_id`` is a text that no other answer has, from which ids
    are made: the same bytes in give the same bytes out.
    """

    def __init__(self, source: Dialect, target: Dialect, context: AnswerContext, *, answer_id: str, created_s: int) -> None:
        self._source: Dialect = source
        self._writer = WRITERS[source](Setting(context, answer_id, created_s))
        self._reading = AnswerReading(target, Grammar(context.names, answer_id, lambda: estimate_tokens(context.request)))
        self._stops = StopSequences(context.stop)
        self._is_streamed = bool(context.stream)
        self.ending: Finished | Failed | None = None
        """How the answer ended; None while it has not. Of a whole answer that failed, it has the status to send."""

    @property
    def content_type(self) -> str:
        """Return the content type of what the client gets."""
        return self._writer.content_type if self._is_streamed else JSON

    def feed(self, data: bytes) -> bytes:
        """Return what the client gets for these bytes of the stream; nothing once the answer has ended."""
        return self._write(self._stops.take(self._reading.feed(data))) if data and self.ending is None else b""

    def end(self) -> bytes:
        """Return what the client gets when the provider's stream ends: nothing more if it was complete."""
        return self._write(self._stops.take(self._reading.end())) if self.ending is None else b""

    def ping(self) -> bytes:
        """Return what tells a client of a stream that the answer still comes; empty where its API has nothing for it."""
        return self._writer.ping() if self.ending is None else b""

    def whole(self, body: bytes) -> bytes:
        """Return the client's body for a whole answer; an error's envelope if it holds an error, as ``ending`` then says."""
        is_stream = is_event_stream(body)
        events = [*self._reading.feed(body), *self._reading.end()] if is_stream else self._reading.whole(body)
        answer = gather(event for event in self._stops.take(events) if event is not None)
        self.ending = answer.ending
        if isinstance(answer.ending, Failed):
            status, written = write_error(self._source, answer.ending)
            self.ending = replace(answer.ending, status=status)
            return written
        return encode(self._writer.whole(answer))

    def error(self, status: int, body: bytes) -> tuple[int, bytes]:
        """Return the client's status and body for a provider's answer with an error status."""
        self.ending, status, written = reworded_error(self._source, status, body)
        return status, written

    def _write(self, events: Iterable[Event | None]) -> bytes:
        written = bytearray()
        for event in events:
            if self.ending is not None:
                break
            written += self._writer.ping() if event is None else self._writer.write(event)
            if isinstance(event, Finished | Failed):
                self.ending = event
        return bytes(written)
