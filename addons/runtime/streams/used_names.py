"""Used names: whether what the short ways use of a library, much of it private, is there in the version that is installed."""

from __future__ import annotations

from collections.abc import Iterable


def missing_name(used: Iterable[tuple[object, Iterable[str]]]) -> str | None:
    """Return the first attribute that an object lacks, with its class, as ``H2Stream.state_machine``; None if all are there."""
    for found, names in used:
        for name in names:
            if not hasattr(found, name):
                return f"{type(found).__name__}.{name}"
    return None
