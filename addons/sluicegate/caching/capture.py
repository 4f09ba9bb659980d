"""The copy of an answer that is on its way to a client, and what of it is kept for other calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from sluicegate.caching.coalescing import PendingAnswer
from sluicegate.caching.entry import Entry, Owner
from sluicegate.caching.forms.conversion import shape_of
from sluicegate.caching.meaning import scope_of
from sluicegate.caching.pacing import PieceTimes
from sluicegate.caching.reuse import is_complete_though_left, is_for_others
from sluicegate.caching.rules import ExactRules
from sluicegate.caching.semantic.worker import Comparison, ScopedQuestion
from sluicegate.calls.call import Call
from sluicegate.policy.cache_schema import CacheScope
from sluicegate.providers.answers.content_encoding import ContentDecoder
from sluicegate.values import Principal, Usage


@dataclass(eq=False, slots=True)
class Capture:
    """The answer of a call that was not in the cache, copied as it arrives so that it may be kept."""

    pending: PendingAnswer
    target: tuple[str, str]
    """The provider and model that the call was judged for."""
    max_bytes: int
    """Size from which an answer is not kept."""
    decoder: ContentDecoder | None = None
    """Undoes the answer's content-encoding, if it has one: who asks next may not accept it."""
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    """Decoded bytes that have arrived, also once ``chunks`` were given up."""
    sent_bytes: int = 0
    """Bytes that have arrived, as they were sent."""
    question: ScopedQuestion | None = None
    """The question of the call, where similar ones may have its answer."""
    comparison: Comparison | None = None
    """A similar question's answer, to be compared with this one."""

    content_type: str = "application/json"
    times: PieceTimes | None = None
    """When its pieces come, where it may be given again at that pace."""

    def read_head(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Read what an answer's headers say of its body."""
        encodings: list[bytes] = []
        for header, value in fields:
            name = header.lower()
            if name == b"content-encoding":
                encodings.append(value)
            elif name == b"content-type":
                self.content_type = value.decode("latin-1")
        if encodings:
            self.decoder = ContentDecoder(b",".join(encodings).decode("latin-1"))

    def __call__(self, chunk: bytes) -> None:
        """Copy a chunk of the answer, as long as the whole is small enough to be kept."""
        self.sent_bytes += len(chunk)
        if self.decoder is not None:
            chunk = self.decoder.feed(chunk)
        self.size += len(chunk)
        if self.size <= self.max_bytes:
            self.chunks.append(chunk)
            if self.times is not None:
                self.times.note(monotonic(), self.size)
        else:
            self.chunks.clear()

    def whole_answer(self, call: Call, rules: ExactRules, scope: CacheScope, *, is_left: bool = False) -> WholeAnswer | None:
        """Return the answer of a completed call that is kept by ``rules`` for those who share ``scope``; None if it is not.

        ``is_left`` says that its client left before its connection to the provider was done with the answer.
        """
        facts, usage, body = call.facts, call.usage, b"".join(self.chunks)
        if call.principal is None or facts is None or usage is None or not body or not rules.enabled:
            return None
        is_whole = (
            (self.decoder is None or self.decoder.readable) and len(body) == self.size and self.sent_bytes == call.response_bytes
        )
        if not is_whole or not is_for_others(call, body) or (is_left and not is_complete_though_left(call, body)):
            return None
        if (call.provider, facts.model) != self.target:
            # Of a routed call that another target has answered, the next one should ask the first again.
            return None
        content = (call.provider, facts.model, self.content_type, body)
        return WholeAnswer(call.started_at, rules.ttl_ms, call.principal, scope, content, usage, self.times)


class WholeAnswer(NamedTuple):
    """An answer that is to be kept. The thread that keeps it makes an entry of it, which takes longer than all else here."""

    at: int
    ttl_ms: int
    principal: Principal
    scope: CacheScope
    content: tuple[str, str, str, bytes]
    """The provider, the model, the content type and the body."""
    usage: Usage
    times: PieceTimes | None

    @property
    def size(self) -> int:
        """Return the bytes of the body."""
        return len(self.content[3])

    def entry(self, key: bytes) -> Entry:
        """Return the answer as it is kept by a key."""
        at, owner = self.at, owner_of(self.principal, self.scope)
        pace = self.times.packed() if self.times is not None and shape_of(self.content[3]) != "whole" else b""
        return Entry(key, at, at + self.ttl_ms, owner, *self.content, usage=self.usage, pace=pace)


def owner_of(principal: Principal, scope: CacheScope) -> Owner:
    """Return whose answer a caller's is, and who shares it."""
    shared_by = scope_of(principal, scope)
    return Owner(*shared_by, principal.virtual_key_id, principal.user_id, principal.team_id, principal.customer_id)
