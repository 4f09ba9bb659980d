"""Meter: reads usage on the side while an answer streams by. Sole owner of ``flow.response.stream``.

Every piece leaves in the hook that received it, unchanged; nothing is held, merged or split. An exception in a stream
callback would cost the client that piece, so the tap never raises.
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

JSON_LIMIT = 64 << 20
"""Bytes of a plain answer kept to read its usage from; beyond that the call is charged its estimate."""


def said(response: http.Response, name: bytes) -> bytes:
    """A header of the answer, all its mentions together: read from the bytes, for asking mitmproxy's costs ten times that."""
    return b",".join(value for header, value in response.headers.fields if header.lower() == name)


class Tap:
    """One answer's stream callback: counts bytes, decodes a copy, and keeps the usage known so far."""

    def __init__(self, call: Call, response: http.Response) -> None:
        self.call = call
        self.clock = services().clock
        self.reader = PROVIDERS[call.provider].usage_reader()
        self.metered = call.kind == "messages" and response.status_code < 400
        encoding, kind = said(response, b"content-encoding"), said(response, b"content-type")
        self.decoder = ContentDecoder(encoding.decode("latin-1"))
        self.sse = SseParser() if b"event-stream" in kind.lower() else None
        self.body = bytearray()
        self.broken = not self.decoder.readable

    def __call__(self, chunk: bytes) -> bytes:
        """mitmproxy: a piece of the answer; the very same piece is returned. ``b""`` ends the body."""
        try:
            self.read(chunk)
        except Exception:
            if not self.broken:
                logger.exception("usage of %s cannot be read; it will be charged its estimate", self.call.id)
            self.broken = True
        for listener in self.call.listeners:
            self.tell(listener, chunk)
        return chunk

    def tell(self, listener: Callable[[bytes], None], chunk: bytes) -> None:
        """Let somebody else read a piece; one that fails is not asked again."""
        try:
            listener(chunk)
        except Exception:
            logger.exception("%r cannot read %s any more", listener, self.call.id)
            self.call.listeners = [x for x in self.call.listeners if x is not listener]

    def read(self, chunk: bytes) -> None:
        """Take note of a piece."""
        call = self.call
        if call.first_byte_at is None:
            call.first_byte_at = self.clock()
        call.response_bytes += len(chunk)
        if not self.metered or self.broken or not chunk:
            return
        plain = self.decoder.feed(chunk)
        if self.sse is None:
            self.body += plain
            self.broken = len(self.body) > JSON_LIMIT
            return
        started = self.reader.message_started
        for event, data in self.sse.feed(plain):
            self.reader.feed_event(event, data)
        if self.reader.message_started and not started and call.on_usage and self.reader.usage:
            call.on_usage(self.reader.usage)

    def finish(self) -> Usage | None:
        """What the answer says it used, completed by what was delivered if it was cut; None if it cannot be read."""
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
            # Nothing was reported: an error instead of an answer costs nothing, a break before the answer its input.
            expected = self.call.expected_usage
            if self.reader.error is not None or expected is None:
                return Usage(estimated=True)
            usage = replace(expected, output_tokens=0)
        delivered = delivered_tokens(self.reader.delivered_bytes, facts.max_tokens if facts else None)
        usage.output_tokens = max(usage.output_tokens, delivered)
        usage.estimated = True
        return usage


class Meter(Addon):
    """Puts a tap on every answer of a provider and finishes its usage before anyone settles."""

    taps: ClassVar[WeakKeyDictionary[http.HTTPFlow, Tap]] = WeakKeyDictionary()
    """The class's own: a reload of the chain makes another meter while answers stream by."""

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the answer begins; from here on its bytes pass through the tap."""
        call = ensure_call(flow)
        if call is None or call.deny is not None or flow.response is None:
            return
        tap = self.taps[flow] = Tap(call, flow.response)
        flow.response.stream = tap

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the answer is complete."""
        self.finish(flow)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the client left, or the provider did."""
        self.finish(flow)

    def finish(self, flow: http.HTTPFlow) -> None:
        """Make the call's usage final, once."""
        call, tap = call_of(flow), self.taps.pop(flow, None)
        if call is None:
            return
        if tap is not None:
            call.usage = tap.finish()
        # Who waits for usage holds the call in turn: both would wait for the collector, and what they know with them.
        call.on_usage = None


addons = [Meter()]
