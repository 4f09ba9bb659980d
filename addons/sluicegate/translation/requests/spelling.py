"""The two spellings of Gemini's fields: Google reads ``functionCall`` and ``function_call`` alike."""

from __future__ import annotations

import re
from typing import Any

from sluicegate.translation.requests.typed import Fields, refuse

_UNDERSCORE = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")


def camel(fields: Fields, where: str) -> dict[str, Any]:
    """Return the fields of one object in camel case. Raises Untranslatable where both spellings of one stand there."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        spelled = _UNDERSCORE.sub(lambda match: match[1].upper(), name) if "_" in name else name
        if spelled in found:
            refuse(where, f"names '{spelled}' in two spellings; send it once")
        found[spelled] = value
    return {name: value for name, value in found.items() if value is not None}
