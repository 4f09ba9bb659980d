"""Content: where policy says so, what a call said and was answered is kept beside its record. Bodies, never headers.

It listens to the pieces that the meter lets pass, so no answer is held back or changed; what is gathered is handed to a
thread when the call is over.
"""

from __future__ import annotations

from typing import ClassVar
from weakref import WeakKeyDictionary

from mitmproxy import http

from flow import Addon, call_of, ensure_call, observing, services
from sluicegate.calls.call import Call
from sluicegate.policy.model import Policy
from sluicegate.providers.content_encoding import ContentDecoder
from sluicegate.storage.content_store import MAX_BODY_BYTES, MAX_REFUSED_BYTES
from sluicegate.storage.content_store import Content as Bodies


class Gathered:
    """An answer's pieces as they have passed, decoded where they were compressed."""

    def __init__(self, encoding: str) -> None:
        self.decoder = ContentDecoder(encoding)
        self.decodes = self.decoder.readable
        self.pieces: list[bytes] = []
        self.size = 0

    @property
    def cut(self) -> bool:
        """Whether there was more than is kept: too much, or what could not be decoded."""
        return self.size > MAX_BODY_BYTES or self.decodes != self.decoder.readable

    def __call__(self, piece: bytes) -> None:
        """A piece has passed."""
        if self.size > MAX_BODY_BYTES:
            return
        piece = self.decoder.feed(piece) if self.decodes else piece
        self.pieces.append(piece[: MAX_BODY_BYTES + 1])
        self.size += len(piece)


class Content(Addon):
    """Gathers what policy wants kept."""

    gathered: ClassVar[WeakKeyDictionary[http.HTTPFlow, Gathered]] = WeakKeyDictionary()
    """The class's own, like the meter's taps."""

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the answer begins; listen to it if it is to be kept."""
        call = ensure_call(flow)
        if call is not None and wanted(call) and flow.response is not None:
            gathered = self.gathered[flow] = Gathered(flow.response.headers.get("content-encoding", ""))
            call.listeners.append(gathered)

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the call is over, answered or refused."""
        self.keep(flow)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the call broke off; what had come until then is kept."""
        self.keep(flow)

    def keep(self, flow: http.HTTPFlow) -> None:
        """Have the bodies written."""
        call = call_of(flow)
        if call is None or not wanted(call):
            return
        gathered = self.gathered.pop(flow, None)
        request = flow.request.raw_content or b""
        answer, cut = b"", False
        if gathered is not None and gathered.pieces:
            answer, cut = b"".join(gathered.pieces), gathered.cut
        elif flow.response is not None:
            # A refusal, or an answer that no meter lets pass piece by piece.
            answer = flow.response.raw_content or b""
        if request or answer:
            most, asked = MAX_BODY_BYTES, MAX_BODY_BYTES if call.deny is None else MAX_REFUSED_BYTES
            kept = Bodies(call.id, call.started_at, request[:asked], answer[:most], len(request) > asked, cut or len(answer) > most)
            services().content.keep(kept)


def wanted(call: Call) -> bool:
    """Whether policy wants this call's content: of known callers alone, or strangers could fill the disk."""
    if call.principal is None or not isinstance(call.policy, Policy):
        return False
    return call.policy.stores_content(call.principal)


addons = [Content()]
