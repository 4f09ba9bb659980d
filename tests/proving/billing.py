"""A provider that answers, and keeps its own bill, to compare with the gateway's records."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sluicegate.pricing.prices import Prices
from sluicegate.providers.anthropic.usage import read_usage
from support.fake_provider import FakeProvider, Peer, Seen, event, message, sse, usage
from support.harness import OPUS

_PRICES = Prices.load()


@dataclass
class Entry:
    """One request that the provider received."""

    session: str
    usage: dict[str, Any]
    streamed: bool
    status: int = 200
    whole: bool = False
    """The answer was sent to its end."""

    @property
    def cost_nano(self) -> int:
        """Return the price of a whole answer, in nano-dollars."""
        cost = _PRICES.cost(read_usage(dict(self.usage), OPUS), OPUS, time.time_ns() // 1_000_000)
        assert cost is not None
        return cost

    @property
    def tokens(self) -> int:
        """Return the tokens that are billed."""
        return read_usage(dict(self.usage), OPUS).total_tokens


HELD_S = 120.0
"""Seconds after which a provider gives up an answer that nobody has let go on."""

Answer = Callable[[Peer, Entry], None]
"""How a request is answered: raises ConnectionError where the answer is not sent to its end."""


def counted(session: str) -> dict[str, Any]:
    """Return a usage that differs from call to call, so that one charged for another shows."""
    seed = int.from_bytes(hashlib.sha256(session.encode()).digest()[:4], "big")
    return usage(input_tokens=100 + seed % 4001, output_tokens=10 + seed % 307, cache_read_input_tokens=seed % 997)


def chunks(entry: Entry, text: str = "an answer") -> list[bytes]:
    """Return the events of a streamed answer with this bill."""
    return sse(text, first=entry.usage | {"output_tokens": 1}, last=entry.usage)


def normal(peer: Peer, entry: Entry) -> None:
    """Send the whole answer, plain or streamed, as asked."""
    if not entry.streamed:
        content = message(**entry.usage)
        peer.head(200, "content-type: application/json", f"content-length: {len(content)}")
        peer.send(content)
        return
    peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
    for piece in chunks(entry):
        peer.chunk(piece)
    peer.end()


def paced(seconds: float) -> Answer:
    """Return a stream that takes this long."""

    def answer(peer: Peer, entry: Entry) -> None:
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        parts = chunks(entry)
        for piece in [*parts[:2], *[event("ping")] * 10, *parts[2:]]:
            peer.chunk(piece)
            time.sleep(seconds / 16)
        peer.end()

    return answer


def held(go: threading.Event) -> Answer:
    """Return a stream that begins, and ends when it may."""

    def answer(peer: Peer, entry: Entry) -> None:
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        parts = chunks(entry)
        for piece in parts[:2]:
            peer.chunk(piece)
        if not go.wait(HELD_S):
            raise ConnectionResetError
        for piece in parts[2:]:
            peer.chunk(piece)
        peer.end()

    return answer


def refusing(status: int, kind: str = "overloaded_error") -> Answer:
    """Return an error, which costs nothing."""
    body = b'{"type":"error","error":{"type":"%s","message":"from the provider"}}' % kind.encode()

    def answer(peer: Peer, entry: Entry) -> None:
        entry.status = status
        peer.head(status, "content-type: application/json", f"content-length: {len(body)}", "retry-after: 1")
        peer.send(body)

    return answer


@dataclass
class BillingProvider(FakeProvider):
    """The provider. ``answer`` may be changed at any moment; ``bill`` is by session."""

    answer: Answer = normal
    bill: dict[str, list[Entry]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        super().__init__(self.take)

    def take(self, peer: Peer, seen: Seen) -> None:
        """Note the request, then answer it."""
        session = seen.header("x-claude-code-session-id") or ""
        entry = Entry(session, counted(session), b'"stream": true' in seen.body)
        with self.lock:
            self.bill.setdefault(session, []).append(entry)
        # Otherwise bodies and heads of hundreds of thousands of calls would be kept.
        self.seen.clear()
        self.answer(peer, entry)
        entry.whole = True
