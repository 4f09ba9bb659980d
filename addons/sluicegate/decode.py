"""Content encodings, undone on the side: the client gets the bytes as they came, we read a decoded copy."""

from __future__ import annotations

import zlib
from typing import Protocol

OUTPUT_LIMIT = 256 << 20
"""Decoded bytes per answer; a bomb costs us its reading, not our memory."""


class _Step(Protocol):
    def feed(self, data: bytes) -> bytes: ...


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._inflate = zlib.decompressobj(wbits)
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        try:
            out = self._inflate.decompress(data, 64 << 20)
        except zlib.error:
            if self._begun or self._wbits != zlib.MAX_WBITS:
                raise
            # "deflate" is sent both with and without the zlib wrapper.
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            out = self._inflate.decompress(data, 64 << 20)
        self._begun = True
        return out


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
                self._steps.append(_Zlib(zlib.MAX_WBITS | 16))
            elif name == "deflate":
                self._steps.append(_Zlib(zlib.MAX_WBITS))
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
