"""What is wrong with given values, in words: the field, the value, the fix, and the nearest name that would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from sluicegate.yaml_document import Location

SECRETS = ("value", "value_hash", "previous_value_hash", "token_hash", "url", "secret", "keys", "virtual_keys")
"""Where a secret stands, or where people put one by mistake: what is there is never shown, also where it is wrong."""


def describe_errors(error: ValidationError, root: type[BaseModel]) -> Iterator[tuple[Location, str]]:
    """Every mistake as its place below ``root`` and a sentence."""
    for item in error.errors(include_url=False):
        place: Location = tuple(x for x in item["loc"] if not (isinstance(x, str) and x.startswith("function-")))
        yield place, _words(item, place, root)


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`` (did you mean X?)``, or nothing where no option is near."""
    close = closest_match(word, options)
    return f" (did you mean {close}?)" if close else ""


def closest_match(word: str, options: Iterable[str]) -> str | None:
    """The option most like the word, if any is."""
    close = difflib.get_close_matches(word, list(options), n=1, cutoff=0.5)
    return close[0] if close else None


def _words(item: Any, place: Location, root: type[BaseModel]) -> str:
    kind, given = item["type"], item.get("input")
    this = display_value(given, place)
    if kind == "extra_forbidden":
        return f"'{place[-1]}' is not a key that is known here{did_you_mean(str(place[-1]), _fields_at(root, place[:-1]))}"
    if kind == "missing":
        return f"'{place[-1]}' is required here"
    if kind == "literal_error":
        options = re.findall(r"'?([\w.]+)'?", item["ctx"]["expected"].replace(" or ", ", "))
        return f"{this} is not one of {', '.join(options)}{did_you_mean(str(given), options)}"
    if kind == "value_error":
        said = str(item["ctx"]["error"])
        return said if "'" in said or isinstance(given, dict | BaseModel) else f"{this}: {said}"
    expected = {
        "string_type": "a text (put it in quotes)",
        "bool_type": "true or false",
        "tuple_type": "a list",
        "model_type": "a mapping of keys",
        "model_attributes_type": "a mapping of keys",
        "dict_type": "a mapping of keys",
        "string_too_short": "a text that is not empty",
    }.get(kind)
    return f"{this} is not {expected}" if expected else f"{this}: {item['msg'].lower()}"


def display_value(given: Any, place: Location) -> str:
    """A wrong value as a message may show it: never a secret, never long."""
    named = [part for part in place if isinstance(part, str)]
    if named and named[-1] in SECRETS:
        return "this value"
    if isinstance(given, dict | BaseModel):
        return "a mapping"
    if isinstance(given, list | tuple):
        return "a list"
    if given is None:
        return "nothing"
    text = str(given).lower() if isinstance(given, bool) else str(given)
    return f"'{text[:80]}'"


def _fields_at(model: type[BaseModel], place: Location) -> list[str]:
    """The keys that may stand at a place."""
    parts = iter(place)
    for part in parts:
        if isinstance(part, int):
            continue
        info = model.model_fields.get(part)
        inner = [t for t in _types(info.annotation) if isinstance(t, type) and issubclass(t, BaseModel)] if info else []
        if info is None or not inner:
            return []
        model = inner[0]
        if get_origin(info.annotation) is dict:
            next(parts, None)
    return list(model.model_fields)


def _types(annotation: Any) -> Iterator[Any]:
    inner = getattr(annotation, "__args__", None)
    if inner is None:
        yield annotation
    else:
        for arg in inner:
            yield from _types(arg)
