"""Informational answers of an upstream (100, 102, 103 Early Hints): skipped, and the answer that follows is passed on.

mitmproxy takes the first of them for the whole answer: the client would wait for one that never comes, and the record
would say that the call was completed. Over HTTP/2 mitmproxy skips them itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mitmproxy.proxy import events

_INFORMATIONAL = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[ \r\n]")
"""The beginning of an answer that is not the last to its request; 101 is the last in HTTP."""

_LINE_BYTES = len(b"HTTP/1.1 100 ")


def skipping_informational(read_headers: Callable[..., Any]) -> Callable[..., Any]:
    """Return mitmproxy's reader of an answer's headers, made to skip the informational answers before it."""

    def read_final_headers(self: Any, event: Any) -> Any:
        if self.request is not None and isinstance(event, events.DataReceived):
            while _INFORMATIONAL.match(bytes(self.buf)[:_LINE_BYTES]) and self.buf.maybe_extract_lines() is not None:
                pass
        return read_headers(self, event)

    return read_final_headers
