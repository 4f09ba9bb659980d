"""Read single values of a parsed body as the type they must have; whatever has another type is named and refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from sluicegate.translation.conversation import Untranslatable

type Fields = Mapping[str, Any]

_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?\Z")
_MAX_WHOLE = 2**53
"""The largest whole number that every JSON parser reads exactly."""


def refuse(where: str, problem: str) -> NoReturn:
    """Raise Untranslatable for the field or place ``where``."""
    raise Untranslatable(f"{where}: {problem}")


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object in ``body``, its keys in order. Raises Untranslatable for anything that parsers read differently."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Untranslatable("the request's body is not valid JSON") from None
    return as_object(value, "the request's body")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Untranslatable("the request's body names a key twice in one object; send each key once")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise Untranslatable(f"the request's body holds {name}, which is not JSON")


def encoded(value: Any) -> bytes:
    """Return compact JSON, keys in their order. Raises Untranslatable for numbers that JSON has no words for."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()
    except ValueError:
        raise Untranslatable("the request's body holds a number that is too large") from None


def dump(value: Any) -> str:
    """Return ``encoded`` as text."""
    return encoded(value).decode()


def as_object(value: Any, where: str) -> dict[str, Any]:
    """Return a JSON object."""
    return value if isinstance(value, dict) else refuse(where, "must be a JSON object")


def as_list(value: Any, where: str) -> list[Any]:
    """Return a JSON list; null is an empty one."""
    if value is None:
        return []
    return value if isinstance(value, list) else refuse(where, "must be a list")


def as_one_or_more(value: Any, where: str) -> list[Any]:
    """Return a JSON list; an object is a list of one, as Google's APIs read it and its own examples write it."""
    return [value] if isinstance(value, dict) else as_list(value, where)


def as_text(value: Any, where: str) -> str:
    """Return a string; null is an empty one."""
    if value is None:
        return ""
    return value if isinstance(value, str) else refuse(where, "must be a string")


def as_number(value: Any, where: str) -> float | None:
    """Return a finite number, also where it stands in quotes; None for null."""
    if isinstance(value, str) and _NUMBER.match(value):
        value = float(value) if "." in value else int(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        refuse(where, "must be a number")
    return value


def _finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def as_whole(value: Any, where: str) -> int | None:
    """Return a whole number, also as 12.0 or in quotes; None for null."""
    number = as_number(value, where)
    if number is None:
        return None
    if abs(number) > _MAX_WHOLE or number != int(number):
        refuse(where, "must be a whole number")
    return int(number)


def as_flag(value: Any, where: str) -> bool | None:
    """Return true or false; None for null."""
    return value if value is None or isinstance(value, bool) else refuse(where, "must be true or false")


def as_texts(value: Any, where: str) -> tuple[str, ...]:
    """Return a string or a list of strings as a tuple."""
    if isinstance(value, str):
        return (value,)
    return tuple(as_text(item, f"{where}[{i}]") for i, item in enumerate(as_list(value, where)))
