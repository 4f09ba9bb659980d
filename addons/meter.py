"""Meter: reads usage from a copy while an answer streams through. The only addon that sets ``flow.response.stream`` of a call.

Every chunk of a stream is passed on in the hook that received it, unchanged; nothing is held, merged or split. An exception in a
stream callback would cost the client that chunk, so the tap never raises.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any

from mitmproxy import http

from flow import Addon, call_of, end_call, ensure_call, observing, services
from sluicegate.calls.answer import AnswerReader
from sluicegate.calls.call import Call
from sluicegate.calls.settlement import used
from sluicegate.calls.unfinished import Pauses, note_count, text_to_count
from sluicegate.pricing.prices import Prices
from sluicegate.providers.answers.usage_reader import UsageReader

logger = logging.getLogger("sluicegate")


_NAMES = (b"content-encoding", b"content-type")
_LENGTHS = tuple(map(len, _NAMES))


def encoding_and_type(response: http.Response) -> tuple[str, str]:
    """Return what an answer says of its body in ``Content-Encoding`` and ``Content-Type``, repeated values joined.

    Read from the raw fields: mitmproxy's look-up takes ten times as long.
    """
    found: dict[bytes, bytes] = {}
    for header, value in response.headers.fields:
        # Of the twenty headers of an answer most are of another length than these two.
        if len(header) in _LENGTHS and (name := header.lower()) in _NAMES:
            found[name] = found[name] + b"," + value if name in found else value
    return found.get(b"content-encoding", b"").decode("latin-1"), found.get(b"content-type", b"").decode("latin-1")


def reader_of(call: Call) -> UsageReader:
    """Return a reader of the call's answer, by its protocol and its provider's own ways to report usage."""
    policy = call.policy or services().policy
    provider = policy.providers[call.provider]
    return provider.usage_reader(call.facts.model if call.facts is not None else "")


def prices_of(call: Call) -> Prices:
    """Return the prices of the call's provider."""
    return services().prices_for(call.provider, call.policy)


def is_whole(call: Call, status: int, content_type: str) -> bool:
    """Return whether an answer is of use to its client only once it is there as a whole."""
    if call.kind != "messages" or call.facts is None or call.facts.stream or status >= 400:
        return False
    return "event-stream" not in content_type.lower()


class Tap:
    """The stream callback of one answer: counts its bytes and reads a copy of them."""

    passes_unchanged = True
    """Tells our layers that what it returns is what it was given, so that they may send on what has come as it came."""

    def __init__(self, call: Call, status: int, content_encoding: str, content_type: str) -> None:
        self.call = call
        self.clock = services().clock
        self.reader: AnswerReader | None = None
        self.feeds = call.reader is None
        """Whether the answer that passes here is the one that is billed: otherwise its reader is fed where that arrives."""
        if call.reader is not None:
            self.reader = call.reader
        elif call.kind == "messages" and status < 400:
            self.reader = AnswerReader(reader_of(call), content_encoding, content_type)
            self.reader.on_start = call.on_usage
        # A clock that is never set back, and takes a third of the time to read.
        self.pauses = Pauses(monotonic() * 1000 - max(0, self.clock() - (call.sent_at or call.started_at)))

    def __call__(self, chunk: bytes) -> bytes:
        """Read a chunk of the answer and return the same chunk. mitmproxy ends the body with ``b""``."""
        call = self.call
        if call.first_byte_at is None:
            call.first_byte_at = self.clock()
        call.response_bytes += len(chunk)
        reader = self.reader
        if reader is not None:
            if self.feeds:
                try:
                    reader.feed(chunk)
                except Exception:
                    # It is not read any further, so this is logged once a call.
                    logger.exception("The usage of call %s cannot be read; the call will be charged its estimate", call.id)
            self.pauses.note(monotonic() * 1000, reader.reader.content_pieces)
        if call.listeners:
            for listener in call.listeners:
                self.notify(listener, chunk)
        return chunk

    def notify(self, listener: Callable[[bytes], None], chunk: bytes) -> None:
        """Pass a chunk to another reader; a reader that fails gets no more."""
        try:
            listener(chunk)
        except Exception:
            logger.exception("%r failed and reads no more of call %s", listener, self.call.id)
            self.call.listeners = [x for x in self.call.listeners if x is not listener]


class Meter(Addon):
    """Puts a tap on every answer of a provider and makes its usage final before any limit settles."""

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Put a tap on the answer as it begins."""
        call, response = ensure_call(flow), flow.response
        if call is None or call.deny is not None or call.cache == "hit" or response is None:
            # Of these no provider's answer passes here, and nothing is billed.
            return
        status, (content_encoding, content_type) = response.status_code, encoding_and_type(response)
        # An attribute of the flow: a reload of the chain makes another meter while answers stream through.
        tap = flow.sluicegate_meter = Tap(call, status, content_encoding, content_type)  # type: ignore[attr-defined]
        if is_whole(call, status, content_type):
            # Read all the same as it arrives, by our own layer, and sent once its cost can stand in its headers.
            flow.sluicegate_tap = tap  # type: ignore[attr-defined]
        else:
            response.stream = tap

    def call_ended(self, flow: http.HTTPFlow) -> TokenCount | None:
        """Make the call's usage final, once. Where its output has to be counted, that is final once the count is awaited."""
        call, tap = call_of(flow), flow.__dict__.pop("sluicegate_meter", None)
        if call is None:
            return None
        count = None
        if tap is not None and not call.response_bytes and flow.response is not None and flow.response.raw_content:
            # Without the gateway's own layers, as where this addon is used alone, mitmproxy has kept the whole answer.
            tap(flow.response.raw_content)
        if tap is not None and tap.reader is not None:
            call.answer = answer = tap.reader.finish()
            call.upstream_error = answer.error
            end_call(flow, call)
            tap.pauses.end(monotonic() * 1000)
            call.unseen_ms = round(tap.pauses.total_ms)
            call.usage = used(call, prices_of(call))
            if (counted := text_to_count(call)) is not None:
                count = TokenCount(call, *counted)
        # The callback refers to the call and the call to it: a cycle that only the garbage collector, run rarely, would free.
        call.on_usage = call.reader = None
        return count


class TokenCount:
    """The count of a call's output by its model's own tokenizer. Until it has been awaited, the usage is an estimate by length."""

    def __init__(self, call: Call, text: str, encoding: str) -> None:
        self.call, self.text, self.encoding = call, text, encoding

    def __await__(self) -> Generator[Any, None, None]:
        return self.run().__await__()

    async def run(self) -> None:
        """Count, and judge the call's usage once more. Never raises."""
        shared = services()
        try:
            tokens = await shared.tokens.count(self.text, self.encoding)
            if tokens is not None:
                note_count(self.call, tokens)
                self.call.usage = used(self.call, prices_of(self.call))
        except Exception:
            logger.exception("The output of call %s cannot be counted; it is estimated by its length", self.call.id)


addons = [Meter()]
