"""Frame limits: a client's HTTP/2 connection ends when it carries many more frames than its calls need.

A frame of nine bytes costs up to a hundred microseconds: a megabyte of them would stop all other calls for ten seconds.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable
from typing import Any

from h2.errors import ErrorCodes
from mitmproxy.proxy import commands, layer

logger = logging.getLogger("sluicegate")

FRAME_BYTES = 64
"""What a usual frame costs, in bytes of a body: as much as a DATA frame of this size brings back."""

FRAMES_AT_ONCE = 2000
"""Frames for which a connection has credit at its start and after a pause; they cost some eighty milliseconds."""

FRAMES_PER_S = 500
"""Frames a second by which the credit grows again."""

MAX_FRAMES = 10_000
"""Frames of credit that a connection can earn: a client that reads slowly acknowledges much at a time."""

FRAMES_PER_EVENT = 3
"""Frames that each part of an answer lets a client send: window updates for its stream and its connection, and a ping.

Its bytes bring as much as those of a body: it may go out in several frames, and a client acknowledge each.
"""

FRAME_HEAD_BYTES = 9
_unpack_head = struct.Struct(">HBB").unpack_from
"""Reads a frame's length, in two parts, and its type."""

PREFACE_BYTES = 24
"""Bytes a client sends before its first frame (RFC 9113, 3.4)."""

DATA, HEADERS, SETTINGS = 0, 1, 4
LAST_KNOWN_TYPE = 9

COSTS = [FRAME_BYTES if kind <= LAST_KNOWN_TYPE else 20 * FRAME_BYTES for kind in range(256)]
"""What a frame of each type costs: that of a type nobody knows also a line in the log."""
COSTS[HEADERS] = 8 * FRAME_BYTES
"""A request, which may be reset at once."""

SETTINGS_BYTE_COST = 8
"""What each byte of a SETTINGS frame costs besides: six of them are a setting."""

TOO_MANY = "more frames than its calls need"


class FrameCredit:
    """How many more frames a client's connection may carry, counted as its bytes arrive."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.left: float = FRAMES_AT_ONCE * FRAME_BYTES
        """What may still be spent, in ``FRAME_BYTES`` a frame."""
        self._since = clock()
        self._skipped_bytes = PREFACE_BYTES
        """Bytes that come before the next frame's head."""
        self._head = b""
        """What has arrived of a head that is not yet whole."""

    def refill(self) -> None:
        """Add what the time since the last call is worth."""
        now = self.clock()
        full = FRAMES_AT_ONCE * FRAME_BYTES
        if self.left < full:
            self.left = min(full, self.left + (now - self._since) * FRAMES_PER_S * FRAME_BYTES)
        self._since = now

    def earn(self, answer_bytes: int = 0) -> None:
        """Add what a part of an answer, of so many bytes, lets a client send."""
        self.left = min(MAX_FRAMES * FRAME_BYTES, self.left + FRAMES_PER_EVENT * FRAME_BYTES + answer_bytes)

    def admits(self, data: bytes) -> bool:
        """Count the frames whose heads end in the next bytes of a connection; return whether it has credit for them.

        It takes less than half a microsecond for each, and reads nothing but heads.
        """
        self.refill()
        if self._head:
            data = self._head + data
        at, left, most = self._skipped_bytes, self.left, MAX_FRAMES * FRAME_BYTES
        last = len(data) - FRAME_HEAD_BYTES
        while at <= last:
            high, low, kind = _unpack_head(data, at)
            length = high << 8 | low
            left -= COSTS[kind]
            if kind == SETTINGS:
                left -= length * SETTINGS_BYTE_COST
            if left < 0:
                self.left = left
                return False
            if kind == DATA:
                left += length
                if left > most:
                    left = most
            at += FRAME_HEAD_BYTES + length
        self.left = left
        self._head, self._skipped_bytes = data[at:], max(0, at - len(data))
        return True


def end(server: Any) -> layer.CommandGenerator[None]:
    """End the connection of an ``Http2Server`` and its calls, as if the client had left; it is told why."""
    logger.warning("An HTTP/2 connection was ended because its client sent %s", TOO_MANY)
    server.h2_conn.close_connection(ErrorCodes.ENHANCE_YOUR_CALM, TOO_MANY.encode())
    yield commands.SendData(server.conn, server.h2_conn.data_to_send())
    yield from server.close_connection(TOO_MANY)
