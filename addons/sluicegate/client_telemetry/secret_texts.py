"""Which texts of clients hold a secret: prompts, commands and errors in prose, with a key in quotes, Markdown or colours."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Protocol

_OWN = re.compile(r"sk-sg-[A-Za-z0-9_-]{43}|sg[ar]t-[A-Za-z0-9_-]{43}|sk-ant-o[ar]t[0-9]")
"""What our own keys and tokens look like, also those that have ended, and those of a Claude login."""

_AROUND = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]|\\[nrt]|[^A-Za-z0-9_.+/=:@%-]+")
"""What may stand around a key in prose and in terminals, and is part of none."""


class Secrets(Protocol):
    """What knows the secrets of the policy."""

    def shows_secret(self, text: bytes) -> bool:
        """Return whether a text holds a secret."""


def holds_secret(text: str, secrets: Secrets) -> bool:
    """Return whether a text holds a secret, whatever stands around it."""
    if _OWN.search(text) is not None:
        return True
    raw = text.encode("utf-8", "surrogatepass")
    if secrets.shows_secret(raw):
        return True
    bare = _AROUND.sub(b" ", raw)
    return bare != raw and secrets.shows_secret(bare)


def text_of_bytes(value: str) -> str:
    """Return the text in a value of bytes, which JSON has in base64; its other bytes as they are."""
    try:
        return base64.b64decode(value.replace("-", "+").replace("_", "/") + "==").decode("latin-1")
    except binascii.Error:
        return value
