"""Validation errors in plain words: the field, the value, what is wrong with it, and the closest valid name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from sluicegate.yaml_document import Location

SECRET_FIELDS = (
    *("value", "value_hash", "previous_value_hash", "token_hash", "url", "secret", "admin_key", "keys", "virtual_keys"),
    *("access_key", "secret_key", "session_token", "auth_credentials", "endpoint"),
)
"""Fields that hold a secret, or where people put one by mistake: their values are never shown, not even invalid ones."""

LISTED_KEYS = 12
"""Known keys that a message names at most, where none is similar to the one that is not known."""


def describe_errors(error: ValidationError, root: type[BaseModel]) -> Iterator[tuple[Location, str]]:
    """Return each mistake as its location in ``root`` and a message."""
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # Entries that are wrong are missing from what was counted; each has an error of its own.
        # Pydantic adds a part of its own where a validator wraps a union.
        location: Location = tuple(x for x in item["loc"] if not (isinstance(x, str) and x.startswith("function-")))
        yield location, _message(item, location, root)


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return `` (did you mean X?)``, or nothing where no option is similar."""
    close = closest_match(word, options)
    return f" (did you mean {close}?)" if close else ""


def _known_keys(word: str, options: Iterable[str]) -> str:
    """Return the key that was meant, or else all that are known where they are few."""
    known = list(options)
    if (meant := did_you_mean(word, known)) or not 0 < len(known) <= LISTED_KEYS:
        return meant
    return f" (known: {', '.join(known)})"


def closest_match(word: str, options: Iterable[str]) -> str | None:
    """Return the option most similar to a word, if any is."""
    close = difflib.get_close_matches(word, list(options), n=1, cutoff=0.5)
    return close[0] if close else None


def _message(item: Any, location: Location, root: type[BaseModel]) -> str:
    kind, value = item["type"], item.get("input")
    this = display_value(value, location)
    if kind == "extra_forbidden":
        return f"'{location[-1]}' is not a known key here{_known_keys(str(location[-1]), _fields_at(root, location[:-1]))}"
    if kind == "missing":
        return f"'{location[-1]}' is required here"
    if kind == "literal_error":
        options = re.findall(r"'?([\w./]+)'?", item["ctx"]["expected"].replace(" or ", ", "))
        return f"{this} is not one of {', '.join(options)}{did_you_mean(str(value), options)}"
    if kind == "value_error":
        message = str(item["ctx"]["error"])
        return message if "'" in message or isinstance(value, dict | BaseModel) else f"{this}: {message}"
    if kind == "too_short":
        return f"the list is too short: give at least {item['ctx']['min_length']} entry"
    if kind == "too_long":
        return f"the list is too long: give at most {item['ctx']['max_length']} entries"
    expected = {
        "string_type": "text (put it in quotes)",
        "bool_type": "true or false",
        "tuple_type": "a list",
        "model_type": "a mapping of keys",
        "model_attributes_type": "a mapping of keys",
        "dict_type": "a mapping of keys",
        "string_too_short": "allowed to be empty",
    }.get(kind)
    if expected == "a mapping of keys" and 0 < len(known := _fields_at(root, location)) <= LISTED_KEYS:
        expected += f" ({', '.join(known)})"
    # The first letter alone: a pattern in the message means its capitals.
    return f"{this} is not {expected}" if expected else f"{this}: {item['msg'][:1].lower()}{item['msg'][1:]}"


def display_value(value: Any, location: Location) -> str:
    """Return a wrong value as a message may show it: no secret, and never long."""
    named = [part for part in location if isinstance(part, str)]
    if named and (named[-1] in SECRET_FIELDS or "headers" in named):
        return "this value"
    if isinstance(value, dict | BaseModel):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text[:80]}'"


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Return the keys that are allowed at a location."""
    parts = iter(location)
    for part in parts:
        if isinstance(part, int):
            continue
        info = model.model_fields.get(part)
        inner = [t for t in _leaf_types(info.annotation) if isinstance(t, type) and issubclass(t, BaseModel)] if info else []
        if info is None or not inner:
            return []
        model = inner[0]
        if get_origin(info.annotation) is dict:
            next(parts, None)
    return list(model.model_fields)


def _leaf_types(annotation: Any) -> Iterator[Any]:
    inner = getattr(annotation, "__args__", None)
    if inner is None:
        yield annotation
    else:
        for arg in inner:
            yield from _leaf_types(arg)
