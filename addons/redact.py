"""Redact: what a client or a provider has sent is never printed, for there are keys in it.

mitmproxy quotes the bytes it could not make sense of: a request broken off in its head is shown with its credentials.
"""

from __future__ import annotations

import logging
import re

from mitmproxy.addonmanager import Loader

from adapter import Addon

QUOTED = re.compile(r"""\bb(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", re.DOTALL)
"""Bytes as Python prints them."""


def unprinted(message: str) -> str:
    """A line of the log with the bytes in it replaced by how long they look."""
    return QUOTED.sub(lambda found: f"<{len(found[0]) - 3} bytes, not shown>", message)


class Redact(Addon):
    """Stands before every reader of mitmproxy's log of connections."""

    def load(self, loader: Loader) -> None:
        """mitmproxy: before the first connection. After a reload it is the same filter once more."""
        super().load(loader)
        wire = logging.getLogger("mitmproxy.proxy.server")
        if redacted not in wire.filters:
            wire.addFilter(redacted)


def redacted(record: logging.LogRecord) -> bool:
    """A filter for a logger: lets every record pass, without wire bytes."""
    record.msg, record.args = unprinted(record.getMessage()), None
    return True


addons = [Redact()]
