"""Undo content encodings on a copy of the stream: the client gets the bytes as they came, we read them decoded."""

from __future__ import annotations

import importlib
import zlib
from typing import Any, Protocol

MAX_DECODED_BYTES = 256 << 20
"""Decoded bytes per answer; a decompression bomb costs the reading of one answer, not our memory."""

MAX_CHUNK_BYTES = 16 << 20
"""Decoded bytes of one chunk as it came off the wire, which is 64 KiB at most."""

MAX_ENCODINGS = 4
"""Encodings of one answer, one over the other; each has buffers of its own, and nobody uses more than two."""

_ZSTD_WINDOW_LOG = 23
"""RFC 9659: an answer's zstd frame needs a window of at most 8 MiB. One that asks for more could cost us 2 GiB."""


class _Step(Protocol):
    def feed(self, data: bytes) -> bytes: ...


class _Zlib:
    """Gzip, one member after another, or deflate, which is sent both with and without its zlib wrapper."""

    def __init__(self, gzip: bool) -> None:
        self._gzip = gzip
        self._inflate: Any = None
        self._head = b""
        self._ended = self._only_padding_left = False

    def feed(self, data: bytes) -> bytes:
        out = b""
        while data and not self._only_padding_left:
            if self._inflate is None:
                # Two bytes tell what follows, and they may come one at a time.
                self._head += data
                if len(self._head) < 2:
                    return out
                data, self._head = self._head, b""
                self._begin_member(data[0], data[1])
                continue
            out += self._inflate.decompress(data, MAX_CHUNK_BYTES)
            if self._inflate.unconsumed_tail:
                raise zlib.error(f"one chunk decodes to more than {MAX_CHUNK_BYTES} bytes")
            data = self._inflate.unused_data
            if self._inflate.eof:
                self._inflate, self._ended = None, True
        return out

    def _begin_member(self, first: int, second: int) -> None:
        if self._gzip:
            # Bytes after a gzip member that do not begin another one are padding to every reader.
            self._only_padding_left = self._ended and (first, second) != (0x1F, 0x8B)
            wbits = zlib.MAX_WBITS | 16
        else:
            self._only_padding_left = self._ended
            # RFC 1950: the wrapper's two bytes name the method and window size and are a multiple of 31.
            wrapped = first & 0x0F == 8 and first >> 4 <= 7 and (first << 8 | second) % 31 == 0
            wbits = zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS
        if not self._only_padding_left:
            self._inflate = zlib.decompressobj(wbits)


class _Brotli:
    def __init__(self) -> None:
        import brotli

        self._decompressor = brotli.Decompressor()

    def feed(self, data: bytes) -> bytes:
        # A brotli without the limit (before 1.2) raises TypeError: then the answer is not readable.
        out: bytes = self._decompressor.process(data, output_buffer_limit=MAX_CHUNK_BYTES)
        if len(out) > MAX_CHUNK_BYTES or not self._decompressor.can_accept_more_data():
            raise ValueError(f"one chunk decodes to more than {MAX_CHUNK_BYTES} bytes")
        return out


class _Zstd:
    """Zstandard, one frame after another, by the standard library or its backport."""

    def __init__(self) -> None:
        try:
            self._library = importlib.import_module("compression.zstd")
        except ImportError:  # Python before 3.14
            self._library = importlib.import_module("backports.zstd")
        self._frame: Any = None

    def feed(self, data: bytes) -> bytes:
        out = b""
        while data:
            if self._frame is None:
                options = {self._library.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
                self._frame = self._library.ZstdDecompressor(options=options)
            out += self._frame.decompress(data, MAX_CHUNK_BYTES + 1 - len(out))
            if len(out) > MAX_CHUNK_BYTES:
                raise ValueError(f"one chunk decodes to more than {MAX_CHUNK_BYTES} bytes")
            data = b""
            if self._frame.eof:
                data, self._frame = self._frame.unused_data, None
        return out


class ContentDecoder:
    """Undoes a ``content-encoding`` chunk by chunk. ``readable`` turns False, and stays so, once it cannot."""

    def __init__(self, content_encoding: str) -> None:
        self.readable = True
        self._steps: list[_Step] = []
        self._produced = 0
        # The header lists encodings in the order they were applied, so they are undone from the last to the first.
        for name in reversed([x.strip().lower() for x in content_encoding.split(",")] if content_encoding else ()):
            if name in ("", "identity"):
                continue
            if len(self._steps) == MAX_ENCODINGS:
                self.readable = False
                break
            if name in ("gzip", "x-gzip"):
                self._steps.append(_Zlib(gzip=True))
            elif name == "deflate":
                self._steps.append(_Zlib(gzip=False))
            elif name in ("br", "zstd"):
                try:
                    self._steps.append(_Brotli() if name == "br" else _Zstd())
                except ImportError:
                    self.readable = False
            else:
                self.readable = False

    def feed(self, data: bytes) -> bytes:
        """Return the decoded bytes this chunk yields; ``b""`` once the answer is not readable."""
        if not self.readable:
            return b""
        # The usual case: we ask upstream for no encoding, so the bytes pass as they are.
        if not self._steps:
            return data
        try:
            for step in self._steps:
                data = step.feed(data)
        except Exception:  # brotli's error class exists only where brotli is installed
            self.readable = False
            return b""
        self._produced += len(data)
        if self._produced > MAX_DECODED_BYTES:
            self.readable = False
            return b""
        return data
