"""Read JSON so that nothing of it is lost when it is written again, and say so where that cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any


class LossyError(Exception):
    """An answer has no other form that says all that it says."""


def parse(data: bytes | str) -> Any:
    """Return a JSON value. Raises LossyError for one that would be another once it is written again."""
    try:
        value = json.loads(
            data, parse_float=_exact, parse_int=_whole, parse_constant=_no_constant, object_pairs_hook=_without_duplicates
        )
    except (ValueError, RecursionError) as e:
        raise LossyError(f"not JSON: {e}") from e
    return value


def parse_object(data: bytes | str) -> dict[str, Any]:
    """Return a JSON object, likewise."""
    value = parse(data)
    if not isinstance(value, dict):
        raise LossyError("not an object")
    return value


def put(fields: dict[str, Any], name: str, value: Any) -> None:
    """Set a member that may be said several times, and always says the same. Raises LossyError where it does not."""
    known = fields.get(name)
    if known is not None and value is not None and known != value:
        raise LossyError(f"{name} is said twice")
    if known is None:
        fields[name] = value


def require(condition: object, why: str) -> None:
    """Raise LossyError unless a condition holds."""
    if not condition:
        raise LossyError(why)


def _exact(text: str) -> float:
    value = float(text)
    if Decimal(repr(value)) != Decimal(text):
        raise ValueError("a number with more digits than a float has")
    return value


def _whole(text: str) -> int:
    if text == "-0":
        raise ValueError("-0")
    return int(text)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _without_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    members = list(pairs)
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member stands twice")
    return found
