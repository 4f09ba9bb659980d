"""Media in request bodies: how much of a body is base64."""

from __future__ import annotations

import re

_BASE64 = re.compile(rb'"data"\s*:\s*"([A-Za-z0-9+/=_\\-]{256,}+)"')


def find_base64(body: bytes) -> tuple[int, int]:
    """Return ``(items, bytes)`` of the base64 payloads in a body: their length says nothing about their tokens."""
    # Looking for plain words first spares the regular expression on bodies without media, which are nearly all.
    if b'"base64"' not in body and b"base64," not in body and b'"inlineData"' not in body and b'"inline_data"' not in body:
        return 0, 0
    found = [len(m.group(1)) for m in _BASE64.finditer(body)]
    return len(found), sum(found)
