"""Content: where policy says so, the bodies of request and answer are stored next to the call's record. Never headers.

It copies the chunks that the meter passes on, so no answer is held back or changed. A thread writes what was collected
once the call has ended.
"""

from __future__ import annotations

from typing import ClassVar
from weakref import WeakKeyDictionary

from mitmproxy import http

from flow import Addon, call_of, ensure_call, observing, services
from sluicegate.calls.call import Call
from sluicegate.providers.answers.content_encoding import ContentDecoder
from sluicegate.providers.answers.event_stream import CONTENT_TYPE, EventStreamText, FrameError
from sluicegate.storage import content_store
from sluicegate.storage.content_store import MAX_BODY_BYTES, MAX_REFUSED_BYTES


class AnswerCopy:
    """The chunks of one answer up to the size that is stored, decoded where compressed, as events where they are frames."""

    def __init__(self, encoding: str, content_type: str = "") -> None:
        self.frames = EventStreamText() if CONTENT_TYPE in content_type.lower() else None
        self.decoder = ContentDecoder(encoding)
        self.decodes = self.decoder.readable
        self.chunks: list[bytes] = []
        self.size = 0

    @property
    def is_cut(self) -> bool:
        """Whether there was more than is stored: too many bytes, or some that could not be decoded."""
        return self.size > MAX_BODY_BYTES or self.decodes != self.decoder.readable

    def __call__(self, chunk: bytes) -> None:
        """Copy a chunk."""
        if self.size > MAX_BODY_BYTES:
            return
        chunk = self.decoder.feed(chunk) if self.decodes else chunk
        if self.frames is not None:
            chunk = self.as_text(self.frames, chunk)
        self.chunks.append(chunk[: MAX_BODY_BYTES + 1])
        self.size += len(chunk)

    def as_text(self, frames: EventStreamText, chunk: bytes) -> bytes:
        """Return the events in a chunk of frames; from bytes on that are none, the bytes."""
        try:
            return frames.complete(chunk)
        except FrameError:
            self.frames = None
            return chunk


class Content(Addon):
    """Collects the bodies that policy wants stored."""

    copies: ClassVar[WeakKeyDictionary[http.HTTPFlow, AnswerCopy]] = WeakKeyDictionary()
    """An attribute of the class, like the meter's taps: a reload of the chain makes a new instance."""

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Start copying an answer that is to be stored."""
        call = ensure_call(flow)
        if call is not None and stores_content(call) and flow.response is not None:
            copy = self.copies[flow] = AnswerCopy(
                flow.response.headers.get("content-encoding", ""), flow.response.headers.get("content-type", "")
            )
            call.listeners.append(copy)

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Hand the bodies over to be written; of a call that broke off, what had arrived by then."""
        call = call_of(flow)
        if call is None or not stores_content(call):
            return
        copy = self.copies.pop(flow, None)
        request = flow.request.raw_content or b""
        answer, is_cut = b"", False
        if copy is not None and copy.chunks:
            answer, is_cut = b"".join(copy.chunks), copy.is_cut
        elif flow.response is not None:
            # A refusal, or an answer that no meter in the chain streams.
            answer = flow.response.raw_content or b""
        if not (request or answer):
            return
        max_request = MAX_BODY_BYTES if call.deny is None else MAX_REFUSED_BYTES
        services().content.keep(
            content_store.Content(
                call.id,
                call.started_at,
                request[:max_request],
                answer[:MAX_BODY_BYTES],
                len(request) > max_request,
                is_cut or len(answer) > MAX_BODY_BYTES,
            )
        )


def stores_content(call: Call) -> bool:
    """Return whether policy wants this call's bodies; only for known callers, or strangers could fill the disk."""
    return call.principal is not None and call.policy is not None and call.policy.stores_content(call.principal)


addons = [Content()]
