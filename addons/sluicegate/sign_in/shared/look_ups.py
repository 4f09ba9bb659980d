"""Access tokens that nobody here has heard of: asked for in the store, so that one issued elsewhere is accepted at once.

Anybody can send what looks like one, so a sender has few such questions, and what was no token once never becomes one.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable

from sluicegate.addresses import limited_as
from sluicegate.sign_in.tokens import ACCESS

BURST, EVERY_S = 20, 0.5
"""Questions that one address has at once, and after how long it has another."""

BURST_OF_ALL, EVERY_S_OF_ALL = 200, 0.01
"""The same of all addresses together."""

MAX_SOURCES, MAX_UNKNOWN = 10_000, 20_000

_ACCESS = ACCESS.encode()
_TOKEN = re.compile(_ACCESS + rb"[A-Za-z0-9_-]{43}\.[A-Za-z0-9_-]{1,800}\.1")
_HEADERS = frozenset((b"authorization", b"x-api-key", b"x-bf-vk"))


def access_token_in(fields: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return what looks like an access token among a request's header fields."""
    for name, value in fields:
        if _ACCESS in value and name.lower() in _HEADERS:
            sent = value.rpartition(b" ")[2]
            return sent if _TOKEN.fullmatch(sent) is not None else None
    return None


class LookUps:
    """How many questions are left, and what is known to be no token. From any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._lock = monotonic, threading.Lock()
        self._free_at: dict[str, float] = {}
        """By address: when all of its questions would be there again; the one that asked last is the last."""
        self._all_free_at = float("-inf")
        self._unknown: dict[bytes, None] = {}

    def is_unknown(self, digest: bytes) -> bool:
        """Return whether the store has said before that it has no such token."""
        return digest in self._unknown

    def note_unknown(self, digest: bytes) -> None:
        """Remember that the store has no such token."""
        with self._lock:
            self._unknown[digest] = None
            if len(self._unknown) > MAX_UNKNOWN:
                del self._unknown[next(iter(self._unknown))]

    def may_ask(self, source: str) -> bool:
        """Return whether an address has a question left, and take it."""
        with self._lock:
            return self._take(self._monotonic(), limited_as(source))

    def has_left(self, source: str) -> bool:
        """Return whether an address has a question left, without taking it."""
        now = self._monotonic()
        return self._free_at.get(limited_as(source), now) + EVERY_S <= now + BURST * EVERY_S

    def _take(self, now: float, counted: str) -> bool:
        own = max(now, self._free_at.pop(counted, now)) + EVERY_S
        of_all = max(now, self._all_free_at) + EVERY_S_OF_ALL
        may = own <= now + BURST * EVERY_S and of_all <= now + BURST_OF_ALL * EVERY_S_OF_ALL
        if may:
            self._all_free_at = of_all
        self._free_at[counted] = own if may else own - EVERY_S
        if len(self._free_at) > MAX_SOURCES:
            del self._free_at[next(iter(self._free_at))]
        return may
