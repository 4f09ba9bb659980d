"""The body of a request while it arrives: handed over at its end as it is, where mitmproxy's own buffer copies all of it.

That copy kept everybody waiting for 60 ms where a body has 60 MB.
"""

from __future__ import annotations

import io
from typing import Self


class BodyBuffer(io.BytesIO):
    """Bytes to which more are added at the end; has what mitmproxy uses of its own buffer."""

    def __iadd__(self, data: bytes) -> Self:
        """Add bytes."""
        self.write(data)
        return self

    def __len__(self) -> int:
        """Return how many bytes there are."""
        return self.tell()

    def __bytes__(self) -> bytes:
        """Return all of them, without a copy: they are only copied if more are added while somebody has them."""
        return self.getvalue()

    def clear(self) -> None:
        """Forget them."""
        self.seek(0)
        self.truncate()
