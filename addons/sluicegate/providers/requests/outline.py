"""Outline of a large request body: all of it but the insides of its long strings, made in short steps.

What governance looks at stands in short strings and in how they are nested; what makes a body large is text and media. So a
body of any size is read by an outline of a few megabytes, which is strict JSON exactly if the body is. A name or value that
is too long to be governed is still too long in the outline.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from sluicegate.background import PAUSE_S
from sluicegate.providers.requests.encoding import NOT_UTF8

LONG_STRING_BYTES = 2048
"""Bytes of a string, as it is written, from which it is cut; whatever names or types anything has a tenth of that."""

KEPT_BYTES = 1100
"""Bytes kept of a string that is cut: more than any governed value may have (``request_body.MAX_SCALAR_BYTES``)."""

MAX_OUTLINE_BYTES = 8 << 20
"""Bytes of an outline; the text that fills a window of a million tokens has half of that before it is cut."""

MAX_STRINGS = 500_000
"""Strings in an outline, the names of fields among them."""

MAX_VALUES = 1_000_000
"""Commas between the values in an outline; an embeddings call has up to 300,000 tokens as numbers."""

STEP_BYTES = 64 << 10
"""Bytes matched at a time. No other thread runs meanwhile, and this takes a fifth of a millisecond."""

STRINGS_PER_PAUSE = 4096
BYTES_PER_PAUSE = 1 << 20
"""How much is read between two pauses in which other threads run: some milliseconds' work."""

PAYLOAD_NAME = b'"data"'
"""The name of the field that holds base64, at Anthropic and at Google."""

_TEXT = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+')
_LONGEST_ESCAPE_BYTES = 6
_BASE64 = re.compile(rb"[A-Za-z0-9+/=_\\-]*+")
_QUOTE = ord('"')
_NO_STRING = "the body is not JSON: one of its strings is not well-formed"


@dataclass(frozen=True, slots=True)
class Outline:
    """A body's outline, and how much of the body it leaves out."""

    json: bytes
    cut_bytes: int = 0
    """Bytes that are left out."""
    cut_payload_bytes: int = 0
    """How many of them are base64 in a field that holds such."""


class OutlineError(ValueError):
    """Why a body has no outline; the message is a sentence for its sender."""


def has_more_braces(body: bytes, most: int) -> bool:
    """Return whether a body has more opening braces than this, those in its texts among them."""
    # bytes.replace seeks them with memchr; bytes.count looks at each byte, which takes five times as long.
    return len(body) - len(body.replace(b"{", b"", most + 1)) > most


def outline_of(body: bytes, max_objects: int) -> Outline:
    """Return a body's outline. Raises OutlineError where it is not JSON, or holds more than is read of one body."""
    return _Outliner(body, max_objects).run()


class _Outliner:
    """Walks through one body, from string to string."""

    def __init__(self, body: bytes, max_objects: int) -> None:
        self.body = body
        self.max_objects = max_objects
        self.kept = bytearray()
        self.between = bytearray()
        """What stands between the strings: brackets, commas, numbers and spaces."""
        self.counted_to = self.objects = self.values = 0
        self.cut_bytes = self.cut_payload_bytes = 0

    def run(self) -> Outline:
        body = self.body
        at, strings, name = 0, 0, b""
        while (quote := body.find(b'"', at)) >= 0:
            gap = self._keep_gap(at, quote)
            at = self._end_of_string(quote + 1)
            strings += 1
            if at - quote > LONG_STRING_BYTES:
                self._cut(quote, at, is_payload=name == PAYLOAD_NAME and gap.strip() == b":")
                name = b""
            else:
                name = body[quote:at]
                self.kept += name
            if not strings % STRINGS_PER_PAUSE:
                self._check_size(strings)
                time.sleep(PAUSE_S)
        self._keep_gap(at, len(body))
        self._check_size(strings)
        return Outline(bytes(self.kept), self.cut_bytes, self.cut_payload_bytes)

    def _keep_gap(self, start: int, end: int) -> bytes:
        """Keep what stands between two strings, and return it."""
        if end - start > MAX_OUTLINE_BYTES:
            raise self._refusal(f"{MAX_OUTLINE_BYTES >> 20} MB besides its long texts")
        gap = self.body[start:end]
        self.between += gap
        self.kept += gap
        return gap

    def _end_of_string(self, start: int) -> int:
        """Return where the string that begins after a quote ends: after its other quote."""
        body, at = self.body, start
        while True:
            limit = at + STEP_BYTES
            found = _TEXT.match(body, at, limit)
            end = found.end() if found else at
            if end < limit and body[end : end + 1] == b'"':
                self._check_utf8(at, end)
                return end + 1
            # A step may end inside an escape or a character; the next one begins there.
            if end < limit - _LONGEST_ESCAPE_BYTES or end >= len(body):
                raise OutlineError(_NO_STRING)
            end = self._whole_characters(end)
            self._check_utf8(at, end)
            if (end - start) // BYTES_PER_PAUSE > (at - start) // BYTES_PER_PAUSE:
                time.sleep(PAUSE_S)
            at = end

    def _whole_characters(self, end: int) -> int:
        """Return the end of the last whole character before ``end``, which stands inside a string."""
        lowest = end - 3
        while end > lowest and self.body[end] & 0xC0 == 0x80:
            end -= 1
        return end

    def _check_utf8(self, start: int, end: int) -> None:
        piece = self.body[start:end]
        if piece.isascii():
            return
        try:
            piece.decode()
        except UnicodeDecodeError:
            raise OutlineError(NOT_UTF8) from None

    def _cut(self, quote: int, end: int, *, is_payload: bool) -> None:
        """Keep the beginning of a long string, which ends between two characters."""
        body = self.body
        found = _TEXT.match(body, quote + 1, quote + 1 + KEPT_BYTES)
        kept_to = self._whole_characters(found.end() if found else quote + 1)
        self.kept += body[quote:kept_to]
        self.kept.append(_QUOTE)
        self.cut_bytes += end - 1 - kept_to
        if is_payload and self._is_base64(quote + 1, end - 1):
            self.cut_payload_bytes += end - 1 - kept_to

    def _is_base64(self, at: int, end: int) -> bool:
        while at < end:
            limit = min(at + STEP_BYTES, end)
            found = _BASE64.match(self.body, at, limit)
            if found is None or found.end() < limit:
                return False
            at = limit
        return True

    def _check_size(self, strings: int) -> None:
        """Refuse a body that by now holds too much."""
        self.objects += self.between.count(b"{", self.counted_to)
        self.values += self.between.count(b",", self.counted_to)
        self.counted_to = len(self.between)
        if self.objects > self.max_objects:
            raise self._refusal(f"{self.max_objects} objects (messages, content blocks, tools and what they hold)")
        if strings > MAX_STRINGS or self.values > MAX_VALUES:
            raise self._refusal(f"{MAX_STRINGS} texts or {MAX_VALUES} values")
        if len(self.kept) > MAX_OUTLINE_BYTES:
            raise self._refusal(f"{MAX_OUTLINE_BYTES >> 20} MB besides its long texts")

    @staticmethod
    def _refusal(most: str) -> OutlineError:
        return OutlineError(f"the body holds more than {most}")
