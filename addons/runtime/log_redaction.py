"""Log redaction: what a client or a provider has sent is never printed, for there are keys in it.

mitmproxy quotes the bytes it could not parse, in its log and in the flow's error: a request that breaks off in its head
is shown with its credentials.
"""

from __future__ import annotations

import logging
import re

from mitmproxy import http
from mitmproxy.addonmanager import Loader

from flow import Addon, observing

BYTES_LITERAL = re.compile(r"""\bb['"]""")
"""Where bytes begin, as Python prints them."""


def without_bytes(message: str) -> str:
    """Return a text up to the bytes it quotes; what follows them goes too, for their end cannot be told for certain."""
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
        """Redact the reason for which a request or an answer broke off; it is about to be shown."""
        if flow.error is not None:
            flow.error.msg = without_bytes(flow.error.msg)


def redact(record: logging.LogRecord) -> bool:
    """Let every record pass, without the bytes it quotes; a filter for a logger."""
    record.msg, record.args = without_bytes(record.getMessage()), None
    return True


addons = [LogRedaction()]
