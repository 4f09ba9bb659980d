"""Keep what only its maker can read inside the client's own form, so that it survives the turns in between.

A Messages client keeps signatures, a Responses client encrypted content, a Gemini client thought signatures, all as text that it
never looks into. What another API made is packed into such a text with a prefix that names its origin, and is given back to that
API alone. The text is Base64 of the URL-safe alphabet, because Gemini's libraries decode and encode it again.
"""

from __future__ import annotations

import base64
import binascii
import json

from sluicegate.translation.conversation import DIALECTS, Opaque

_MARK = b"sluicegate."
PREFIX = base64.urlsafe_b64encode(_MARK[:9]).decode()
"""How every packed text begins; twelve characters, so that a body can be searched for them."""

_STANDARD = str.maketrans("-_", "+/")


def pack(opaque: Opaque) -> str:
    """Return a text that holds ``opaque`` with its origin; the same for the same value."""
    fields: list[str | bool | None] = [opaque.origin, opaque.data, opaque.redacted, opaque.text, opaque.id]
    plain = _MARK + json.dumps(fields, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(plain).decode()


def unpack(text: str) -> Opaque | None:
    """Return what ``pack`` put into ``text``; None where it is a provider's own or has been damaged."""
    if not text.startswith(PREFIX):
        return None
    try:
        plain = base64.b64decode(_padded(text.translate(_STANDARD)), validate=True)
        fields = json.loads(plain.removeprefix(_MARK))
    except (binascii.Error, ValueError, RecursionError):
        return None
    match fields:
        case [str() as origin, str(data), bool(redacted), None | str() as thought, str(item)] if origin in DIALECTS:
            return Opaque(origin, data, redacted, thought, item)
        case _:
            return None


def _padded(text: str) -> str:
    stripped = text.rstrip("=")
    return stripped + "=" * (-len(stripped) % 4)
