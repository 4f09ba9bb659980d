"""Redact: what mitmproxy says of bytes that it could not read, it says without the bytes.

A request that breaks off within its headers, or one of whose lines is none, is quoted in mitmproxy's log and in the
flow's error; the caller's key may be what is quoted.
"""

from __future__ import annotations

import logging
import re

from mitmproxy import http

from adapter import Addon, observing

QUOTE = re.compile(r"""(?:bytearray\()?\bb['"]""")
"""Where bytes begin, as Python prints them."""


def redacted(text: str) -> str:
    """A text up to the bytes it quotes, which end it: there may be a great many."""
    found = QUOTE.search(text)
    return text if found is None else text[: found.start()] + "(bytes)"


class Unquoted(logging.Filter):
    """Lets every line of the log pass, without bytes."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Take quoted bytes out of a record."""
        record.msg, record.args = redacted(record.getMessage()), None
        return True


class Redact(Addon):
    """Watches mitmproxy's words on connections and flows."""

    def __init__(self) -> None:
        self.filter = Unquoted()

    def running(self) -> None:
        """mitmproxy: the proxy is up; nobody is connected yet."""
        super().running()
        logging.getLogger("mitmproxy.proxy.server").addFilter(self.filter)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a request or an answer broke off; the reason is about to be shown."""
        if flow.error is not None:
            flow.error.msg = redacted(flow.error.msg)


addons = [Redact()]
