"""Readers of usage: what all providers' answers have in common, and what was delivered, measured on decoded text."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import deque
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import msgspec
import orjson

from sluicegate.providers.answers.sse import events_of
from sluicegate.values import Usage

CUT_SHORT = "ended before its time"
"""The error of an answer that simply stopped."""

MAX_COUNT = 1 << 40
"""No count of tokens or requests reaches this: whatever claims to is not one."""

MAX_PENDING_BYTES = 256 << 10
"""Bytes of content events kept undecoded: most answers end below that and never need to be decoded."""

_BATCH_BYTES = 16 << 10
"""Bytes of content events decoded at once when there are more than that: a tenth of a millisecond."""

_EVENT_HEAD = re.compile(rb"\n\n(?:event: [^\n]*\n)?data: ")

MAX_KEPT_CHARACTERS = 8 << 20
"""Characters of delivered text kept to be counted by a tokeniser; what comes after is measured by its length alone."""

MAX_FINISH_REASONS = 16
"""Candidates whose reasons to end are kept; the others' are not."""

MAX_FINISH_REASON_CHARS = 64


class Delivered(msgspec.Struct):
    """Output that reached the client: its length in Unicode characters, and its text where the reader keeps it.

    Measured on decoded strings, so spacing, key order, padding and escapes make no difference.
    """

    characters: int = 0
    has_hidden: bool = False
    """Whether the model wrote more than can be seen: summarised, redacted or omitted thinking, encrypted reasoning."""
    hidden_tokens: int = 0
    """Tokens of hidden thinking by the provider's own running estimate, where it sends one."""
    pieces: dict[int | None, list[str]] = {}
    """The text by candidate, up to MAX_KEPT_CHARACTERS in all; empty where the reader does not keep it."""
    kept: int = 0
    """Characters in ``pieces``; fewer than ``characters`` if there was too much to keep."""

    def add(self, text: str, keep: bool = False, candidate: int | None = None) -> None:
        """Count a piece of text, and keep it if asked to and there is room."""
        self.characters += len(text)
        if keep and self.kept + len(text) <= MAX_KEPT_CHARACTERS:
            self.pieces.setdefault(candidate, []).append(text)
            self.kept += len(text)

    @property
    def text(self) -> str:
        """The kept text, one candidate after another: they are written side by side, and each is tokens of its own."""
        return "".join("".join(pieces) for pieces in self.pieces.values())


class ToolRequests(NamedTuple):
    """What tools of the provider's own are billed for beside tokens, by the names of ``Usage``."""

    web_search_requests: int = 0
    file_search_requests: int = 0
    code_interpreter_sessions: int = 0


class UsageReader(ABC):
    """A reader of an answer's usage, event by event or whole. Invalid input never raises."""

    keeps_text: ClassVar[bool] = False
    """Whether the delivered text is kept, for models whose tokeniser is known."""

    reads_lists: ClassVar[bool] = False
    """Whether an answer may be a JSON list, whose elements are what the events of a stream would be."""

    run_mark: ClassVar[bytes | None] = None
    """Finds events in a row among others that ``skim`` may take at once, see ``sse.runs_of``; None where each is read by itself."""

    def __init__(self) -> None:
        # Set here and not on the class: what an instance takes over from its class is slow to set.
        self._usage: Usage | None = None
        self._is_judged = True
        """Whether ``usage`` and what belongs to it say all that was seen."""
        self.is_invalid = False
        """Whether a count that matters was reported as something that is not a count."""
        self.finished = False
        """Whether the answer has been marked as complete."""
        self.is_final = False
        """Whether the end of the answer said how much output there was."""
        self.output_tokens: int | None = None
        """What the end of the answer said of its output, also where nothing was said of the input and ``usage`` is None."""
        self.is_truncated = False
        """Whether the answer stopped before the model was done: at a length limit, or refused on the way."""
        self.is_unbilled = False
        """Whether the provider bills nothing for it: refused before any output."""
        self.finish_reasons: tuple[str, ...] = ()
        """Why each candidate ended, in the provider's words, as far as they are words."""
        self.has_content = False
        """Whether output has begun."""
        self.message_started = False
        self.error: str | None = None
        """The type of an error event inside the answer."""
        self.content_pieces = 0
        """How often content has come, one event or several at a time."""
        self._candidate: int | None = None
        """The candidate whose content is being measured, where there may be several."""
        self._delivered = Delivered()
        self._pending: deque[bytes] = deque()
        """Content events in their own spelling, undecoded."""
        self._pending_bytes = 0

    def note_finish_reason(self, reason: object) -> None:
        """Note why a candidate has ended."""
        if isinstance(reason, str) and len(self.finish_reasons) < MAX_FINISH_REASONS and is_finish_reason(reason):
            self.finish_reasons = (*self.finish_reasons, reason)

    @abstractmethod
    def feed_event(self, event: str, data: bytes) -> None:
        """Read one server-sent event. Content events are handed to ``defer``."""

    @abstractmethod
    def read_json(self, body: bytes) -> None:
        """Read a whole answer that was not streamed; one that was cut is read as far as it goes, and is not final."""

    @abstractmethod
    def measure(self, event: Any) -> None:
        """Add what a decoded content event has delivered: ``self.deliver`` of each string that the model wrote."""

    @property
    def usage(self) -> Usage | None:
        """What is billed, judged on all that was seen so far; None while nothing valid was reported."""
        self.catch_up()
        return self._usage

    @usage.setter
    def usage(self, usage: Usage | None) -> None:
        self._usage = usage

    def catch_up(self) -> None:
        """Judge what has come since the usage was last asked for, where a reader has put that off."""
        if not self._is_judged:
            self._is_judged = True
            self._judge()

    def _judge(self) -> None:  # noqa: B027
        """Say what is billed by all that was seen so far."""

    def deliver(self, text: Any) -> None:
        """Count a string that the model wrote; anything else is nothing."""
        if isinstance(text, str):
            self._delivered.add(text, self.keeps_text, self._candidate)

    def tool_requests(self) -> ToolRequests:
        """Return what tools of the provider's own are billed for, so far as it is known, with or without a usage."""
        return ToolRequests()

    def skim(self, text: bytes, is_known: bool = False) -> bool:
        """Keep the text of several events undecoded if all of it is content; return whether it was.

        ``is_known`` says that it ``is_run``.
        """
        return False

    def defer(self, data: bytes) -> None:
        """Keep a content event to be decoded only if the answer ends without a final count."""
        self.defer_text(b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n")

    def defer_text(self, text: bytes) -> None:
        """Keep whole content events, as they stand in the stream."""
        self.has_content = True
        self.content_pieces += 1
        self._pending.append(text)
        self._pending_bytes = pending = self._pending_bytes + len(text)
        if pending > MAX_PENDING_BYTES:
            self._decode_pending(_BATCH_BYTES)

    @property
    def delivered(self) -> Delivered:
        """What has been delivered. The first question costs decoding what was deferred, about a microsecond an event."""
        self._decode_pending(self._pending_bytes)
        return self._delivered

    def _decode_pending(self, size: int) -> None:
        """Decode at least this many bytes of what was deferred, oldest first."""
        batch: list[bytes] = []
        while size > 0 and self._pending:
            text = self._pending.popleft()
            self._pending_bytes -= len(text)
            size -= len(text)
            batch.append(text)
        texts = self._delivered.pieces
        kept = {candidate: len(pieces) for candidate, pieces in texts.items()}
        for event in _values_of(b"".join(batch)):
            self.measure(event)
        # As pieces of a token each, the text would take ten times its size.
        for candidate, pieces in texts.items():
            if len(pieces) > (first := kept.get(candidate, 0)) + 1:
                pieces[first:] = ["".join(pieces[first:])]


def _values_of(text: bytes) -> list[Any]:
    """Return the JSON values of events."""
    # Nearly always each event is one line of data, perhaps after its name: then all of them are one array for the parser.
    joined, count = _EVENT_HEAD.subn(b",", b"\n\n" + text.removesuffix(b"\n\n"))
    try:
        values = orjson.loads(b"[" + joined[1:] + b"]")
    except orjson.JSONDecodeError:
        values = []
    if len(values) == count and joined.startswith(b","):
        return list(values)
    return [parse_json(data) for _, data in events_of(text)]


def is_finish_reason(reason: str) -> bool:
    """Return whether a text is a word by which an answer may end."""
    return len(reason) <= MAX_FINISH_REASON_CHARS and _is_word(reason)


@lru_cache(maxsize=64)
def _is_word(reason: str) -> bool:
    return reason.isascii() and reason.replace("_", "").replace("-", "").isalpha()


def parse_count(value: Any) -> int | None:
    """Return a count that a provider reported, written 12 or 12.0; None if the value is not a valid count."""
    # The usual form first. True is an int in Python, but not a count.
    if type(value) is int:
        return value if 0 <= value < MAX_COUNT else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_COUNT:
        return None
    count = int(value)
    return count if count == value else None


def parse_json(data: bytes) -> Any:
    """Return a JSON value as the most lenient client reads it; None if it is none.

    Of a key that stands twice the last value counts, as in the parsers of JavaScript and Python.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    # orjson stops at 1,024 levels of nesting and at lone surrogates, and NaN is a count that must not be taken for none.
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def json_text(value: Any) -> str:
    """Return an object that the model wrote as the shortest JSON, however it was spelled on the way."""
    # orjson would raise for half an emoji and for a number of more than 64 bits.
    return json.dumps(_with_whole_numbers(value), ensure_ascii=False, separators=(",", ":"))


def _with_whole_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_whole_numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53 else value


def parse_cut_object(data: bytes, report: str) -> dict[str, Any] | None:
    """Return as much of a JSON object as has come of one that was cut, without its report if the cut may be inside of that.

    None if nothing has come of an object.
    """
    value = parse_partial_json(data)
    if not isinstance(value, dict):
        return None
    if value and next(reversed(value)) == report:
        # Counts may be missing from it.
        del value[report]
    return value


def parse_partial_json(data: bytes) -> Any:
    """Return as much of a JSON value as has come of one that was cut; None if that is nothing.

    What is not complete is left out, but for the last string: of it, what there is.
    """
    import pydantic_core

    # A number that the cut has shortened would be another number.
    text = data.removeprefix(b"\xef\xbb\xbf").rstrip(b"0123456789+-.eE").decode("utf-8", "ignore")
    try:
        return pydantic_core.from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return None
