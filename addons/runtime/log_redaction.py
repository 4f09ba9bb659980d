"""LogRedaction: what a client or a provider has sent is never printed, for there are keys in it.

mitmproxy quotes the bytes it could not make sense of, in its log and in the flow's error: a request broken off in its
head is shown with its credentials.
"""

from __future__ import annotations

import logging
import re

from mitmproxy import http
from mitmproxy.addonmanager import Loader

from flow import Addon, observing

QUOTE = re.compile(r"""\bb['"]""")
"""Where bytes begin, as Python prints them."""


def unprinted(message: str) -> str:
    """A text up to the bytes it quotes, which end it: there may be a great many."""
    found = QUOTE.search(message)
    return message if found is None else message[: found.start()] + "<bytes, not shown>"


class LogRedaction(Addon):
    """Stands before every reader of mitmproxy's words on connections and flows."""

    def load(self, loader: Loader) -> None:
        """mitmproxy: before the first connection. After a reload it is the same filter once more."""
        super().load(loader)
        wire = logging.getLogger("mitmproxy.proxy.server")
        if redacted not in wire.filters:
            wire.addFilter(redacted)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a request or an answer broke off; the reason is about to be shown."""
        if flow.error is not None:
            flow.error.msg = unprinted(flow.error.msg)


def redacted(record: logging.LogRecord) -> bool:
    """A filter for a logger: lets every record pass, without wire bytes."""
    record.msg, record.args = unprinted(record.getMessage()), None
    return True


addons = [LogRedaction()]
