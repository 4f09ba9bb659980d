"""Answers: the usage and the delivered output that are read from a provider's answer while it streams through.

Pure: bytes go in, an ``Answer`` comes out when it has ended. What the call is charged for it is decided in `settlement.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from sluicegate.providers.answers.content_encoding import ContentDecoder
from sluicegate.providers.answers.event_stream import CONTENT_TYPE, EventStreamText, FrameError, sent_event
from sluicegate.providers.answers.json_list import JsonListParser
from sluicegate.providers.answers.sse import SseParser, events_of, runs_of
from sluicegate.providers.answers.usage_reader import CUT_SHORT, Delivered, ToolRequests, UsageReader
from sluicegate.values import Usage

MAX_JSON_BYTES = 64 << 20
"""Bytes of a plain answer kept to read its usage from; a longer one is charged its estimate."""

_MAX_HEAD_BYTES = 4096
"""Bytes of blank lines that may stand before what tells an event stream from JSON; after that its label decides."""

_USUAL_FIELDS = (b"event: ", b"data: ")
"""How nearly every event stream begins."""

_FIELDS = (b"event:", b"data:", b"id:", b"retry:")


class Answer(msgspec.Struct):
    """What was read of a provider's answer to a model call, judged when the answer has ended."""

    usage: Usage | None = None
    """What the provider bills, as reported; None if nothing valid was reported."""
    is_readable: bool = True
    """Whether it could be read at all: if not, the call is charged what was reserved."""
    is_final: bool = False
    """Whether the answer came to its end and that end said what was used. Otherwise ``usage`` is what was known so far."""
    output_tokens: int | None = None
    """What the end of the answer said of its output, also where nothing was said of its input."""
    is_streamed: bool = True
    is_truncated: bool = False
    """Whether it stopped before the model was done, which teaches nothing about how much models write."""
    is_unbilled: bool = False
    """Whether the provider bills nothing for it: refused before any output. ``usage`` is then all zero."""
    has_content: bool = False
    """Whether output had begun."""
    error: str | None = None
    """What went wrong in an answer that began well: the type of an error event, or an early end."""
    reader: UsageReader | None = None

    @property
    def tool_requests(self) -> ToolRequests:
        """Return what the provider's tools are billed for beside tokens, also where ``usage`` is None."""
        return self.reader.tool_requests() if self.reader else ToolRequests()

    @property
    def delivered(self) -> Delivered:
        """The output that reached the client. Decoded when first asked for: a final answer rarely needs it."""
        return self.reader.delivered if self.reader else Delivered()


class AnswerReader:
    """Reads one answer, chunk by chunk. ``content_encoding`` and ``content_type`` are its headers' values."""

    def __init__(self, reader: UsageReader, content_encoding: str, content_type: str) -> None:
        self.reader = reader
        self.on_start: Callable[[Usage], None] | None = None
        """Called once with the first usage that a stream reports, long before its end."""
        label = content_type.lower()
        # We ask upstream for no encoding.
        self._decoder = ContentDecoder(content_encoding) if content_encoding else None
        self._is_labelled_stream = "event-stream" in label
        self._is_undecided = True
        """Whether the bytes so far do not tell an event stream from JSON."""
        self._is_guess = False
        """Whether it is read as a stream for its label alone, and no event has been found in it."""
        self._sse: SseParser | JsonListParser | EventStreamText | None = None
        self._body = bytearray()
        if CONTENT_TYPE in label:
            self._sse, self._is_undecided = EventStreamText(), False
        self._is_broken = self._decoder is not None and not self._decoder.readable
        self._is_damaged = False
        """Whether a frame of it had a wrong checksum; what came before is read."""

    @property
    def is_plain(self) -> bool:
        """Return whether what has arrived shows that the answer is not a stream."""
        return self._sse is None and not self._is_undecided

    def feed(self, chunk: bytes) -> None:
        """Read a chunk. Raises whatever a reader raises; after that the answer counts as unreadable."""
        if self._is_broken or self._is_damaged or not chunk:
            return
        try:
            plain = self._decoder.feed(chunk) if self._decoder is not None else chunk
            sse = self._sse
            if sse is None:
                plain = self._begin(plain)
                sse = self._sse
                if sse is None:
                    return
            # Nearly every chunk of nearly every stream is whole events, which ``complete`` would return as they are. To find
            # takes a third of the time of ``in``, which tries a number first.
            is_whole = sse.is_between_events and plain.endswith(b"\n\n") and plain.find(b"\r") < 0
            text = plain if is_whole else sse.complete(plain)
            if text and not self.reader.skim(text):
                self._read(text)
        except FrameError as e:
            # No client reads on either, so it ends here, like a stream that breaks off.
            self._is_damaged = True
            self._read_events(b"".join(map(sent_event, e.before)))
        except BaseException:
            self._is_broken = True
            raise

    def _begin(self, plain: bytes) -> bytes:
        """Keep the beginning until it tells an event stream from JSON, and then all of the JSON; return the stream's beginning."""
        if self._is_undecided and not self._body and plain.startswith(_USUAL_FIELDS):
            self._sse, self._is_undecided = SseParser(has_begun=True), False
            return plain
        self._body += plain
        if self._is_undecided and (is_stream := begins_stream(self._body[:_MAX_HEAD_BYTES])) is not None:
            self._decide(is_stream)
        elif self._is_undecided and len(self._body) >= _MAX_HEAD_BYTES:
            self._guess()
        if self._sse is None:
            self._is_broken = len(self._body) > MAX_JSON_BYTES
            return b""
        plain, self._body = bytes(self._body), bytearray()
        return plain

    def _read(self, text: bytes) -> None:
        """Read events, those that are nothing but content at once where several stand in a row."""
        reader, at = self.reader, 0
        for begin, end in runs_of(text, reader.run_mark) if reader.run_mark is not None else ():
            if at < begin:
                self._read_events(text[at:begin])
            run, at = text[begin:end], end
            if not reader.skim(run, is_known=True):
                self._read_events(run)
        if at < len(text):
            self._read_events(text[at:])

    def _read_events(self, text: bytes) -> None:
        reader = self.reader
        for event, data in events_of(text):
            self._is_guess = False
            reader.feed_event(event, data)
            # After each event and not after all that came together: a later one may make the usage unreadable.
            if self.on_start and reader.usage:
                on_start, self.on_start = self.on_start, None
                on_start(reader.usage)

    def _decide(self, is_stream: bool) -> None:
        self._is_undecided = False
        if is_stream:
            self._sse = SseParser()
        elif self.reader.reads_lists and self._body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
            self._sse, self._is_guess = JsonListParser(), True

    def _guess(self) -> None:
        self._decide(self._is_labelled_stream)
        self._is_guess = self._is_labelled_stream and bool(self._body.strip(b"\xef\xbb\xbf \t\r\n"))

    def finish(self) -> Answer:
        """Return what was read, once the answer has ended, however it did."""
        if self._is_broken or (self._decoder is not None and not self._decoder.readable):
            return Answer(is_readable=False)
        if self._is_undecided:
            self._guess()
            if self._sse is not None:
                self._read_events(self._sse.complete(bytes(self._body)))
        reader = self.reader
        if self._sse is None:
            reader.read_json(bytes(self._body))
        else:
            for event, data in self._sse.flush():
                self._is_guess = False
                reader.feed_event(event, data)
        usage = reader.usage
        is_nothing = usage is None and not reader.has_content and not reader.error
        if reader.is_invalid or (is_nothing and (self._sse is None or self._is_guess)):
            return Answer(is_readable=False, has_content=reader.has_content, reader=reader)
        if usage is not None and not reader.is_final:
            # The end that counts them has not come, but what has come shows some.
            used = {name: max(count, getattr(usage, name)) for name, count in reader.tool_requests()._asdict().items()}
            usage = replace(usage, **used)
        return Answer(
            usage=usage,
            is_final=reader.is_final and usage is not None and not self._is_damaged,
            output_tokens=reader.output_tokens,
            is_streamed=self._sse is not None,
            is_truncated=reader.is_truncated,
            is_unbilled=reader.is_unbilled,
            has_content=reader.has_content,
            error=reader.error or (None if self._sse is None or (reader.finished and not self._is_damaged) else CUT_SHORT),
            reader=reader,
        )


def begins_stream(head: bytes | bytearray) -> bool | None:
    """Return whether an answer that begins with these bytes is an event stream; None while they do not tell.

    Judged by the bytes, because upstreams label their streams text/plain, application/json or not at all.
    """
    if head.startswith(b"{"):
        # Nearly every answer that is not streamed.
        return False
    text = bytes(head).removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    if text[:1] in (b"{", b"["):
        return False
    if text.startswith((b":", *_FIELDS)):
        return True
    return None
