"""The outer form of a stream: events, Gemini's JSON list of chunks, or one JSON document; read piece by piece, and written."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from sluicegate.providers.answers.json_list import JsonListParser
from sluicegate.providers.answers.sse import MAX_EVENT_BYTES, Event, SseParser, events_of

type Form = Literal["events", "list", "document"]

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"

_BLANK = b" \t\r\n\xef\xbb\xbf"
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Frames:
    """An incremental parser for whatever a provider streams: also for one that answers a streamed call with one document."""

    def __init__(self) -> None:
        self.form: Form | None = None
        """Known from the first character that is not blank."""
        self._head = bytearray()
        self._parser: SseParser | JsonListParser | None = None
        self._gave_up = False

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that end in these bytes."""
        if self._parser is not None:
            return _events_and_pings(self._parser.complete(data))
        if self._gave_up:
            return []
        self._head += data
        if self.form is None:
            first = self._head.lstrip(_BLANK)[:1]
            if not first:
                return []
            self.form = "list" if first == b"[" else "document" if first == b"{" else "events"
        if self.form == "document":
            if len(self._head) > MAX_EVENT_BYTES:
                self._head, self._gave_up = bytearray(), True
            return []
        self._parser = JsonListParser() if self.form == "list" else SseParser()
        data, self._head = bytes(self._head), bytearray()
        return _events_and_pings(self._parser.complete(data))

    def flush(self) -> list[Event]:
        """Return an event whose end never came; of a document, the whole of it."""
        if self._parser is not None:
            return self._parser.flush()
        head, self._head = bytes(self._head).strip(_BLANK), bytearray()
        return [("", head)] if head else []


PING: Event = ("ping", b"")
"""What keeps a connection alive while a provider has nothing to say: Anthropic's event, or a comment."""


def _events_and_pings(text: bytes) -> list[Event]:
    """Return the events of a parsed text, and a ping for every comment that stands alone."""
    if not text.startswith(b":") and b"\n:" not in text:
        return events_of(text)
    events: list[Event] = []
    for block in text.split(b"\n\n"):
        found = events_of(block)
        events += found or ([PING] if block.startswith(b":") else [])
    return events


def is_event_stream(body: bytes) -> bool:
    """Return whether a whole body is a stream of events, which some servers send whatever they were asked for."""
    return re.match(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:", body) is not None


def encode(value: Any) -> bytes:
    """Return a value as compact JSON in one line of UTF-8, for every reader that splits lines."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if _LINE_ENDS.search(text):
        text = _LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    if _SURROGATE.search(text):
        text = json.dumps(value, separators=(",", ":"))
    return text.encode()


def named_event(name: str, value: Any) -> bytes:
    """Return one event with a name, as Anthropic and Responses write it."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(value))


def data_event(value: Any) -> bytes:
    """Return one event without a name, as Chat Completions and Gemini write it."""
    return b"data: %b\n\n" % encode(value)
