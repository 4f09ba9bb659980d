"""The body of a request while it arrives: handed over at its end as it is, where mitmproxy's own buffer copies all of it.

That copy kept everybody waiting for 60 ms where a body has 60 MB.
"""

from __future__ import annotations

import io
from typing import Self


class BodyBuffer(io.BytesIO):
    """Bytes to which more are added at the end; has what mitmproxy uses of its own buffer."""

    _expected = _room = 0
    """Bytes that will have come at the end, where that is known, and for how many there is room."""

    def expect(self, size: int) -> None:
        """Make room for a body of this size as it comes, and copy it less often: by itself it grows by an eighth at a time.

        There is never room for more than twice of what has come: whoever only says that a body is large takes no memory.
        """
        self._expected = size

    def __iadd__(self, data: bytes | memoryview) -> Self:
        """Add bytes."""
        if self._expected:
            at = self.tell()
            end = at + len(data)
            if at < end and self._room < end <= self._expected:
                self._room = min(2 * end, self._expected)
                self.seek(self._room - 1)
                self.write(b"\0")
                self.seek(at)
        self.write(data)
        return self

    def __len__(self) -> int:
        """Return how many bytes there are."""
        return self.tell()

    def __bytes__(self) -> bytes:
        """Return all of them, without a copy: they are only copied if more are added while somebody has them."""
        if self._room:
            self._room = 0
            self.truncate()
        return self.getvalue()

    def clear(self) -> None:
        """Forget them."""
        self._expected = self._room = 0
        self.seek(0)
        self.truncate()
