"""Used names: whether what the short ways use of a library, much of it private, is there in the version that is installed."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Set
from typing import Any


def missing_name(used: Iterable[tuple[object, Iterable[str]]]) -> str | None:
    """Return the first attribute that an object lacks, with its class, as ``H2Stream.state_machine``; None if all are there."""
    for found, names in used:
        for name in names:
            if not hasattr(found, name):
                return f"{type(found).__name__}.{name}"
    return None


def changed_function(function: Any, names: Set[str]) -> str | None:
    """Return a function, as ``Class.method as it was``, that uses other names than these, and so does something else; else None."""
    return None if set(function.__code__.co_names) == names else f"{function.__qualname__} as it was"


def digest_of_names(functions: Iterable[Callable[..., Any]]) -> str:
    """Return a digest of the names that functions use: whoever uses another one does something else."""
    found = [sorted(set(inspect.unwrap(function).__code__.co_names)) for function in functions]
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]
