"""The parts of a header or query value that may be a secret, however it is written: in lists, URLs, encodings and base64."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

_MAX_CUTS = 8
"""Cuts in a word up to which all that stands between any two of them is compared."""

_MAX_ENCODINGS = 3
"""Percent-encodings on top of each other that are undone."""

_WORD = re.compile(rb"[^\s,;&\"'<>(){}\[\]|\\]+")
_PLAIN = re.compile(rb"[A-Za-z0-9_-]+")
_CUT = re.compile(rb"[=:@/?.#]")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{4,}={0,2}")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def pieces_of(value: bytes) -> Iterable[bytes]:
    """Return the parts of a value that may be a secret: itself, its words and what stands between their separators.

    So a secret is found in a list, after a scheme such as Bearer, as a parameter, as the user or password of a URL, and
    however often it is percent-encoded. What is base64 is decoded once, which is how Basic carries user and password.
    """
    if _PLAIN.fullmatch(value) is not None:
        inner = decoded(value)
        return (value,) if inner is None else (value, *_words_of(inner))
    return _all_pieces_of(value)


def _all_pieces_of(value: bytes) -> Iterator[bytes]:
    for word in _words_of(value):
        yield word
        if (inner := decoded(word)) is not None:
            yield from _words_of(inner)


def _words_of(value: bytes) -> Iterator[bytes]:
    """Return a value's words and their parts, with every percent-encoding undone."""
    for _ in range(1 + _MAX_ENCODINGS):
        whole = value.strip()
        if whole:
            yield whole
            # The only parts with spaces in them: what follows a scheme, a user and a password.
            for separator in (b" ", b":"):
                first, found, rest = whole.partition(separator)
                if found:
                    yield first
                    yield rest.lstrip()
        for match in _WORD.finditer(value):
            if match[0] != whole:
                yield match[0]
            yield from _between_cuts(match[0])
        if b"%" not in value or (unquoted := unquote_to_bytes(value)) == value:
            return
        value = unquoted


def _between_cuts(word: bytes) -> Iterator[bytes]:
    """Return what stands between two separators of a word, its ends included; between all of them only where they are few."""
    ends = [-1, *(m.start() for m in _CUT.finditer(word)), len(word)]
    last = len(ends) - 1
    if last == 1:
        return
    are_few = last <= _MAX_CUTS + 1
    for i in range(last):
        # From the word's beginning to each cut; from each cut to the next one and to the end.
        stops: Iterable[int] = range(i + 1, last + (i > 0)) if are_few or i == 0 else {i + 1, last}
        for j in stops:
            if piece := word[ends[i] + 1 : ends[j]]:
                yield piece


def decoded(word: bytes) -> bytes | None:
    """Return what a word says in base64; None if it is not base64 of text."""
    if _BASE64.fullmatch(word) is None or (len(word) == 36 and word[8:24:5] == b"----"):
        # A UUID is the one value that is new in every request of the usual clients.
        return None
    try:
        text = binascii.a2b_base64(word.translate(_URL_SAFE) + b"==")
    except binascii.Error:
        return None
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            return None
    return text if _CONTROL.search(text) is None else None
