"""The pace of a streamed answer: when its pieces came, kept in little room, and giving them again at that pace, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from time import monotonic

import msgspec

MAX_PAUSE_S = 2.0
"""The longest pause before a piece that is given again, also before the first one."""

MAX_WHOLE_S = 60.0
"""How long a whole answer takes at most; where its pauses are longer, all of them are shortened by the same factor."""

MAX_GIVEN_S = 120.0
"""How long a client that reads slowly is waited for; then the rest is handed over, as of any kept answer."""

MAX_PIECES = 512
"""Pieces of an answer whose times are kept: of longer ones several are given at once."""

MAX_BYTES = 64 << 20
"""Bytes of all answers that are being given at their pace; beyond it an answer is given at once."""

MIN_PAUSE_MS = 20
"""Pieces that follow each other faster than this are given at once."""

_TIMES = msgspec.msgpack.Decoder(list[int])


class PieceTimes:
    """Notes when the pieces of an answer come. It never holds more than twice as many as are kept."""

    def __init__(self, now_s: float) -> None:
        """``now_s`` is when the provider was asked, by a clock that is never set back."""
        self._began_s = now_s
        self._apart_ms = MIN_PAUSE_MS
        self._at: list[int] = []
        """Milliseconds from the beginning to each piece."""
        self._ends: list[int] = []
        """Bytes of the answer up to the end of each."""

    def note(self, now_s: float, size: int) -> None:
        """Note a piece, by the size of the answer with it; the end of an answer is none."""
        if size <= (self._ends[-1] if self._ends else 0):
            return
        at = max(0, round((now_s - self._began_s) * 1000))
        if self._at and at - self._at[-1] < self._apart_ms:
            self._ends[-1] = size
            return
        self._at.append(at)
        self._ends.append(size)
        while len(self._at) >= 2 * MAX_PIECES:
            self._thin()

    def packed(self) -> bytes:
        """Return what was noted: by piece the milliseconds since the one before, and its bytes."""
        while len(self._at) > MAX_PIECES:
            self._thin()
        steps = zip(_steps(self._at), _steps(self._ends), strict=True)
        return msgspec.msgpack.encode([number for step in steps for number in step])

    def _thin(self) -> None:
        """Make one piece of those that are less than twice as far apart as before."""
        noted, self._apart_ms = list(zip(self._at, self._ends, strict=True)), self._apart_ms * 2
        self._at, self._ends = [], []
        for at, end in noted:
            if self._at and at - self._at[-1] < self._apart_ms:
                self._ends[-1] = end
            else:
                self._at.append(at)
                self._ends.append(end)


def _steps(values: list[int]) -> list[int]:
    return [after - before for before, after in pairwise([0, *values])]


def schedule(packed: bytes, body: bytes) -> list[tuple[float, int]]:
    """Return when each piece of an answer is to be given again, in seconds from its beginning, and up to which byte.

    ``body`` may be another form of the stream than the one whose pieces were noted. Raises ValueError for what is not a pace.
    """
    numbers = _TIMES.decode(packed)
    pauses, sizes = numbers[::2], numbers[1::2]
    if len(pauses) != len(sizes) or any(number < 0 for number in numbers):
        raise ValueError("not the pace of an answer")
    bounded = [min(pause / 1000, MAX_PAUSE_S) for pause in pauses]
    slower, noted = min(1.0, MAX_WHOLE_S / max(sum(bounded), MAX_WHOLE_S)), sum(sizes)
    found: list[tuple[float, int]] = []
    at, upto = 0.0, 0
    for pause, size in zip(bounded, sizes, strict=True):
        at, upto = at + pause * slower, upto + size
        found.append((at, upto if noted == len(body) else _end_of_event(body, upto * len(body) // max(1, noted))))
    if not found or found[-1][1] < len(body):
        found.append((at, len(body)))
    return found


def _end_of_event(body: bytes, least: int) -> int:
    """Return where the event ends that a byte is in; the byte itself where it is in none."""
    end = body.find(b"\n\n", max(0, least - 2))
    return least if end < 0 else end + 2


class Replays:
    """The answers that are being given at their pace, each of them in memory as long as that takes."""

    def __init__(self) -> None:
        self.bytes = 0

    def begin(self, body: bytes, packed: bytes) -> Replay | None:
        """Begin to give an answer, which must be told to ``end``; None while too much is being given. Raises ValueError."""
        if self.bytes + len(body) > MAX_BYTES:
            return None
        replay = Replay(body, packed)
        self.bytes += replay.size
        return replay

    def end(self, replay: Replay) -> None:
        """Note that an answer is no longer being given."""
        self.bytes -= replay.size


class Replay:
    """A kept answer that is being given again piece by piece."""

    def __init__(self, body: bytes, packed: bytes, clock_s: Callable[[], float] = monotonic) -> None:
        """Begin to give an answer. Raises ValueError."""
        self._body, self._pieces, self._clock_s = body, schedule(packed, body), clock_s
        self._began_s, self.size = clock_s(), len(body)
        self._next = 0
        self.given_bytes = 0
        self.first_byte_ms: int | None = None
        """Milliseconds from the beginning to the first piece, once it has been given."""

    @property
    def is_over(self) -> bool:
        """Return whether all of it has been given."""
        return self.given_bytes >= self.size

    @property
    def is_overdue(self) -> bool:
        """Return whether its client has been waited for long enough."""
        return self._clock_s() - self._began_s > MAX_GIVEN_S

    def wait_s(self) -> float:
        """Return how long it is until the next piece is to be given."""
        return max(0.0, self._began_s + self._pieces[self._next][0] - self._clock_s()) if not self.is_over else 0.0

    def take(self, *, all_of_it: bool = False) -> bytes:
        """Return the pieces whose time has come, or all that are left."""
        passed, end = self._clock_s() - self._began_s, self.given_bytes
        while self._next < len(self._pieces) and (all_of_it or self._pieces[self._next][0] <= passed):
            end = max(end, self._pieces[self._next][1])
            self._next += 1
        if self.first_byte_ms is None and end:
            self.first_byte_ms = round(passed * 1000)
        given, self.given_bytes = self._body[self.given_bytes : end], max(self.given_bytes, end)
        return given
