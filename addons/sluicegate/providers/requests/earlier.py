"""The last body that came on a connection: an agent sends its whole conversation again with each call, and a little more.

What has been read of a body need not be read again where the same bytes stand in the same places. They are compared, all of
them: nothing is taken to be the same that only looks alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import msgspec

from sluicegate.values import RequestFacts

MIN_BYTES = 4096
"""Bytes of a body from which it pays to remember one."""

MAX_KEPT_BYTES = 16 << 20
"""Bytes of all bodies that are remembered at a time, some hundred conversations; those beyond are read whole each time."""

TRIES, REST_TRIES = 4, 8
"""Up to which body in a row that continues none each is remembered, and of how many after those one is."""


class Known(NamedTuple):
    """A part of a body that has been read."""

    name: str
    """The member that it belongs to."""
    text: bytes
    """All of it, from the member's name on."""
    short: bytes
    """What stands for it in a body that is read without it."""
    at: int
    """Where it begins, from the body's beginning; from its end if below 0."""


class Shortened(NamedTuple):
    """A body without the parts that are known."""

    json: bytes
    places: Sequence[tuple[str, int]]
    """Where the members begin in it whose parts are left out."""


class EarlierBody:
    """What is remembered of one body: the parts that the next one may have again, in their order."""

    __slots__ = ("_has_ended", "_in_vain", "parts", "size")

    bytes_of_all: ClassVar[int] = 0
    """What all of them remember together."""

    def __init__(self) -> None:
        self.parts: Sequence[Known] = ()
        self.size = 0
        """Bytes that are remembered."""
        self._has_ended = False
        self._in_vain = 0
        """How many bodies there were since the last one that continued another, that one among them."""

    def shortened(self, body: bytes) -> Shortened | None:
        """Return a body without the parts that it has again; None where they do not make up half of it."""
        size, end, left_out = len(body), 0, 0
        pieces: list[bytes] = []
        places: list[tuple[str, int]] = []
        for name, text, short, at in self.parts:
            start = at if at >= 0 else size + at
            if start >= end and body.startswith(text, start):
                places.append((name, start - left_out))
                pieces += body[end:start], short
                end = start + len(text)
                left_out += len(text) - len(short)
        if left_out * 2 < size:
            return None
        self._in_vain = 1
        pieces.append(body[end:])
        return Shortened(b"".join(pieces), places)

    def is_worth_keeping(self, body: bytes) -> bool:
        """Return whether this body, which continues none, is to be remembered.

        The first of a connection is not, for it may be the only one; nor are all of those that nobody continues.
        """
        self._in_vain += 1
        if self._has_ended or self._in_vain == 1 or (self._in_vain > TRIES and self._in_vain % REST_TRIES):
            return False
        return EarlierBody.bytes_of_all - self.size + len(body) <= MAX_KEPT_BYTES

    def keep(self, parts: Sequence[Known]) -> None:
        """Remember these parts, and nothing else."""
        size = sum(len(part.text) for part in parts)
        EarlierBody.bytes_of_all += size - self.size
        self.parts, self.size = parts, size

    def end(self) -> None:
        """Forget the body, and remember no other: its connection has ended, which the garbage collector may find out late."""
        self._has_ended = True
        self.keep(())

    def __del__(self) -> None:
        """Stop counting the body of a connection that nobody has seen end."""
        self.end()


def set_members_apart(facts: RequestFacts, body: bytes) -> None:
    """Add the top-level members of a body to facts that lack them because only a part of it was read."""
    if facts.members is not None and not facts.members:
        facts.members.update(_MEMBERS.decode(body))


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
