"""Content encodings, undone on the side: the client gets the bytes as they came, we read a decoded copy."""

from __future__ import annotations

import zlib
from typing import Any, Protocol

OUTPUT_LIMIT = 256 << 20
"""Decoded bytes per answer; a bomb costs us its reading, not our memory."""

PIECE_LIMIT = 64 << 20
"""Decoded bytes of one piece as it came off the wire."""


class _Step(Protocol):
    def feed(self, data: bytes) -> bytes: ...


class _Zlib:
    """Gzip, one member after another, or deflate, which is sent both with and without its wrapper."""

    def __init__(self, gzip: bool) -> None:
        self._gzip = gzip
        self._inflate: Any = None
        self._head = b""
        self._ended = self._over = False

    def feed(self, data: bytes) -> bytes:
        out = b""
        while data and not self._over:
            if self._inflate is None:
                # What comes is told by two bytes, and they may come one by one.
                self._head += data
                if len(self._head) < 2:
                    return out
                data, self._head = self._head, b""
                self._begin(data[0], data[1])
                continue
            out += self._inflate.decompress(data, PIECE_LIMIT)
            if self._inflate.unconsumed_tail:
                raise zlib.error("a piece is larger than anything is")
            data = self._inflate.unused_data
            if self._inflate.eof:
                self._inflate, self._ended = None, True
        return out

    def _begin(self, first: int, second: int) -> None:
        if self._gzip:
            # What follows a member and is none is padding, to all who read it.
            self._over = self._ended and (first, second) != (0x1F, 0x8B)
            wbits = zlib.MAX_WBITS | 16
        else:
            self._over = self._ended
            wrapped = first & 0x0F == 8 and first >> 4 <= 7 and (first << 8 | second) % 31 == 0
            wbits = zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS
        if not self._over:
            self._inflate = zlib.decompressobj(wbits)


class _Brotli:
    def __init__(self) -> None:
        import brotli

        self._decompressor = brotli.Decompressor()

    def feed(self, data: bytes) -> bytes:
        return bytes(self._decompressor.process(data))


class Decoder:
    """Undoes a ``content-encoding`` piece by piece. ``readable`` turns False for good where it cannot."""

    def __init__(self, content_encoding: str) -> None:
        self.readable = True
        self._steps: list[_Step] = []
        self._produced = 0
        for name in reversed([x.strip().lower() for x in content_encoding.split(",")] if content_encoding else ()):
            if name in ("", "identity"):
                continue
            if name in ("gzip", "x-gzip"):
                self._steps.append(_Zlib(gzip=True))
            elif name == "deflate":
                self._steps.append(_Zlib(gzip=False))
            elif name == "br":
                try:
                    self._steps.append(_Brotli())
                except ImportError:
                    self.readable = False
            else:
                self.readable = False

    def feed(self, data: bytes) -> bytes:
        """The decoded bytes this piece yields; ``b""`` once it is not readable."""
        if not self.readable:
            return b""
        if not self._steps:
            return data
        try:
            for step in self._steps:
                data = step.feed(data)
        except Exception:  # brotli's error class exists only where brotli does
            self.readable = False
            return b""
        self._produced += len(data)
        if self._produced > OUTPUT_LIMIT:
            self.readable = False
            return b""
        return data
