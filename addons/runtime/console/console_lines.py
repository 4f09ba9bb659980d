"""Console lines: what is printed, and how: a line per call, warnings and errors, as text or JSON, and none of mitmproxy's chatter.

mitmdump prints a line whenever a client connects or leaves and one for each flow. With ``-v`` or ``log_connections`` it does here.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.addons.termlog import TermLogHandler
from mitmproxy.utils import human

from flow import Addon, services
from runtime.options import exit_with_error, log_format
from sluicegate.console.lines import FormatError, message_as_json, message_as_text
from sluicegate.console.printer import write_line

SHOWING_CONNECTIONS = (("termlog_verbosity", "debug"), ("log_connections", True))
"""Options, and the values with which mitmproxy's own lines on connections are printed."""


class WholeLines:
    """What mitmproxy's handler prints to, piece by piece: hands on whole lines, which no other thread's can come into.

    The handler lets one thread print at a time.
    """

    def __init__(self) -> None:
        self.pending = ""

    def write(self, text: str) -> int:
        """Keep the text until its line ends."""
        self.pending += text
        if text.endswith("\n"):
            whole, self.pending = self.pending[:-1], ""
            write_line(sys.stdout, whole)
        return len(text)


class ConsoleFormatter(logging.Formatter):
    """Makes a record of the log one line of JSON, or text with its time."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as it is printed."""
        at_ms, message = int(record.created * 1000), record.getMessage()
        client = getattr(record, "client", None)
        origin = human.format_address(client) if client else None
        error = "".join(traceback.format_exception(*record.exc_info)).rstrip() if record.exc_info else None
        if log_format() == "json":
            more = {"logger": record.name, "client": origin, "error": error}
            return message_as_json(at_ms, record.levelno, message, **more)
        return message_as_text(at_ms, record.levelno, f"{message}\n{error}" if error else message, origin)


def is_shown(record: logging.LogRecord) -> bool:
    """Return whether a record is printed: what mitmproxy says of each connection only where that is asked for."""
    return record.levelno >= logging.WARNING or record.name.startswith("sluicegate") or shows_connections(ctx.options)


def shows_connections(options: Any) -> bool:
    """Return whether mitmproxy's own lines on connections are to be printed."""
    return any(name in options and getattr(options, name) == value for name, value in SHOWING_CONNECTIONS)


def shows_calls(options: Any) -> bool:
    """Return whether a line is printed for each call: not with ``-q``."""
    return "termlog_verbosity" not in options or options.termlog_verbosity in ("info", "debug")


class ConsoleLines(Addon):
    """Sets up mitmproxy's handler before the first connection, and the line of each call once the services are open."""

    name = "console_lines"

    def load(self, loader: Loader) -> None:
        """Declare our options; a reload finds what is in place already."""
        super().load(loader)
        loader.add_option("log_format", str, "", "Lines of the log: text or json. Env SLUICEGATE_LOG_FORMAT; default text.")
        loader.add_option("log_connections", bool, False, "Print mitmproxy's own lines on connections and flows too.")
        for handler in logging.getLogger().handlers:
            if isinstance(handler, TermLogHandler) and is_shown not in handler.filters:
                handler.addFilter(is_shown)
                handler.setFormatter(ConsoleFormatter())
                handler.file = WholeLines()  # type: ignore[assignment]

    def configure(self, updated: set[str]) -> None:
        """Refuse an unknown format."""
        try:
            log_format()
        except FormatError as e:
            exit_with_error(str(e))

    def running(self) -> None:
        """Print each call from now on, and no flow unless it is asked for."""
        super().running()
        options = ctx.options
        if "flow_detail" in options and options.flow_detail == options.default("flow_detail") and not shows_connections(options):
            options.update(flow_detail=0)
        printer = services().printer
        printer.format, printer.is_on = log_format(), shows_calls(options)


addons = [ConsoleLines()]
