"""Log redaction: bytes that a client or a provider has sent are never printed, because they may hold keys.

mitmproxy quotes the bytes it could not parse, in its log and in the flow's error, and with them the credentials of a
request that breaks off in its head.
"""

from __future__ import annotations

import logging
import re

from mitmproxy import http
from mitmproxy.addonmanager import Loader

from flow import Addon, observing

BYTES_LITERAL = re.compile(r"""\bb['"]""")
"""The beginning of bytes as Python prints them."""


def without_bytes(message: str) -> str:
    """Return a text up to the bytes it quotes, without the rest, because the end of the bytes cannot be found reliably."""
    found = BYTES_LITERAL.search(message)
    return message if found is None else message[: found.start()] + "<bytes, not shown>"


class LogRedaction(Addon):
    """Redacts before any handler of mitmproxy's log, and before any later addon sees a flow's error."""

    name = "log_redaction"

    def load(self, loader: Loader) -> None:
        """Filter the log before the first connection; a reload finds the same filter in place."""
        super().load(loader)
        log = logging.getLogger("mitmproxy.proxy.server")
        if redact not in log.filters:
            log.addFilter(redact)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """Redact the reason why a request or an answer broke off, which is about to be shown."""
        if flow.error is not None:
            flow.error.msg = without_bytes(flow.error.msg)


def redact(record: logging.LogRecord) -> bool:
    """Let every record pass, without the bytes it quotes; a filter for a logger."""
    record.msg, record.args = without_bytes(record.getMessage()), None
    return True


addons = [LogRedaction()]
