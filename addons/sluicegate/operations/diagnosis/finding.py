"""One finding about an installation: what was looked at, how it is, and the one thing that mends it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """What was found. ``fail``: something does not work; ``warn``: it works, and somebody should look at it."""

    check: str
    level: Level
    message: str
    mend: str | None = None
    """What to do, in one line; None where all is well."""


def ok(check: str, message: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, "ok", message)


def warn(check: str, message: str, mend: str) -> Finding:
    """Return a finding that somebody should look at."""
    return Finding(check, "warn", message, mend)


def fail(check: str, message: str, mend: str) -> Finding:
    """Return a finding that something does not work."""
    return Finding(check, "fail", message, mend)
