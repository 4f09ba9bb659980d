"""Searching what was said: the kept bodies of calls, one after the other, as many as one query may look through."""

from __future__ import annotations

import json
from collections.abc import Callable

from sluicegate.storage.content_store import Content

MAX_CALLS = 2_000
"""Calls that one query looks through."""

MAX_BYTES = 64 << 20
"""Bytes of bodies that one query looks through."""


class BodySearch:
    """Looks for a text in the kept bodies of calls, whatever its case, as it is or as JSON writes it."""

    def __init__(self, text: str, content_of: Callable[[str], Content | None]) -> None:
        self.text, self._content_of = text, content_of
        escaped = (json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
        self._wanted = {form.casefold() for form in (text, *escaped)}
        self._calls = self._bytes = 0

    @property
    def is_over(self) -> bool:
        """Whether this query has looked through enough."""
        return self._calls >= MAX_CALLS or self._bytes >= MAX_BYTES

    def finds(self, call_id: str) -> bool:
        """Return whether a call's bodies contain the text. Raises OSError or sqlite3.Error."""
        self._calls += 1
        kept = self._content_of(call_id)
        if kept is None:
            return False
        self._bytes += kept.size
        bodies = (body.decode(errors="replace").casefold() for body in (kept.request, kept.response))
        return any(form in body for body in bodies for form in self._wanted)
