"""Meter: reads usage from a copy while an answer streams through. The only addon that sets ``flow.response.stream`` of a call.

Every chunk is passed on in the hook that received it, unchanged; nothing is held, merged or split. An exception in a
stream callback would cost the client that chunk, so the tap never raises.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar
from weakref import WeakKeyDictionary

from mitmproxy import http

from flow import Addon, call_of, ensure_call, observing, services
from sluicegate.calls.call import Call
from sluicegate.calls.estimate import delivered_tokens
from sluicegate.providers import PROVIDERS
from sluicegate.providers.content_encoding import ContentDecoder
from sluicegate.providers.sse import SseParser
from sluicegate.values import Usage

logger = logging.getLogger("sluicegate")

MAX_JSON_BYTES = 64 << 20
"""Bytes of a plain answer kept to read its usage from; a longer one is charged its estimate."""


def header_value(response: http.Response, name: bytes) -> bytes:
    """Return an answer's header, its values joined. Read from the raw fields: mitmproxy's look-up takes ten times as long."""
    return b",".join(value for header, value in response.headers.fields if header.lower() == name)


class Tap:
    """The stream callback of one answer: counts bytes, decodes a copy, and keeps the usage known so far."""

    def __init__(self, call: Call, response: http.Response) -> None:
        self.call = call
        self.clock = services().clock
        self.reader = PROVIDERS[call.provider].usage_reader()
        self.metered = call.kind == "messages" and response.status_code < 400
        encoding, kind = header_value(response, b"content-encoding"), header_value(response, b"content-type")
        self.decoder = ContentDecoder(encoding.decode("latin-1"))
        self.sse = SseParser() if b"event-stream" in kind.lower() else None
        self.body = bytearray()
        self.broken = not self.decoder.readable

    def __call__(self, chunk: bytes) -> bytes:
        """Read a chunk of the answer and return the same chunk. mitmproxy ends the body with ``b""``."""
        try:
            self.read(chunk)
        except Exception:
            if not self.broken:
                logger.exception("The usage of call %s cannot be read; the call will be charged its estimate", self.call.id)
            self.broken = True
        for listener in self.call.listeners:
            self.notify(listener, chunk)
        return chunk

    def notify(self, listener: Callable[[bytes], None], chunk: bytes) -> None:
        """Pass a chunk to another reader; a reader that fails gets no more."""
        try:
            listener(chunk)
        except Exception:
            logger.exception("%r failed and reads no more of call %s", listener, self.call.id)
            self.call.listeners = [x for x in self.call.listeners if x is not listener]

    def read(self, chunk: bytes) -> None:
        """Count a chunk and feed it to the reader of usage."""
        call = self.call
        if call.first_byte_at is None:
            call.first_byte_at = self.clock()
        call.response_bytes += len(chunk)
        if not self.metered or self.broken or not chunk:
            return
        plain = self.decoder.feed(chunk)
        if self.sse is None:
            self.body += plain
            self.broken = len(self.body) > MAX_JSON_BYTES
            return
        started = self.reader.message_started
        for event, data in self.sse.feed(plain):
            self.reader.feed_event(event, data)
        if self.reader.message_started and not started and call.on_usage and self.reader.usage:
            call.on_usage(self.reader.usage)

    def finish(self) -> Usage | None:
        """Return the usage the answer reported, completed by what was delivered if it was cut; None if it is unreadable."""
        if not self.metered or self.broken or not self.decoder.readable:
            return None
        if self.sse is None:
            self.reader.read_json(bytes(self.body))
            return self.reader.usage
        for event, data in self.sse.flush():
            self.reader.feed_event(event, data)
        usage, facts = self.reader.usage, self.call.facts
        self.call.upstream_error = self.reader.error or (None if self.reader.finished else "ended before its time")
        if self.reader.finished:
            return usage
        if usage is None:
            # Nothing was reported: an error in place of an answer costs nothing, a break before the answer costs the input.
            expected = self.call.expected_usage
            if self.reader.error is not None or expected is None:
                return Usage(estimated=True)
            usage = replace(expected, output_tokens=0)
        delivered = delivered_tokens(self.reader.delivered_bytes, facts.max_tokens if facts else None)
        usage.output_tokens = max(usage.output_tokens, delivered)
        usage.estimated = True
        return usage


class Meter(Addon):
    """Puts a tap on every answer of a provider and makes its usage final before any limit settles."""

    taps: ClassVar[WeakKeyDictionary[http.HTTPFlow, Tap]] = WeakKeyDictionary()
    """An attribute of the class: a reload of the chain makes another meter while answers stream through."""

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Put a tap on the answer as it begins."""
        call = ensure_call(flow)
        if call is None or call.deny is not None or flow.response is None:
            return
        tap = self.taps[flow] = Tap(call, flow.response)
        flow.response.stream = tap

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Make the call's usage final, once."""
        call, tap = call_of(flow), self.taps.pop(flow, None)
        if call is None:
            return
        if tap is not None:
            call.usage = tap.finish()
        # The callback refers to the call and the call to it: a cycle that only the garbage collector, run rarely, would free.
        call.on_usage = None


addons = [Meter()]
