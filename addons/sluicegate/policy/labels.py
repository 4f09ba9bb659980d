"""Labels: names and values of an entity's own, such as a cost centre, which records, exports and filters carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, WithJsonSchema

MAX_LABELS = 16
"""Labels of one entity."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")


def check_labels(value: Any) -> dict[str, str]:
    """Return labels as they are. Raises ValueError saying which is wrong and how to write it."""
    if not isinstance(value, Mapping):
        raise ValueError('write names and values, such as {cost_center: "4711"}')
    if len(value) > MAX_LABELS:
        raise ValueError(f"has {len(value)} labels; at most {MAX_LABELS} are possible")
    for name, text in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"'{str(name)[:80]}' is not a label's name: write up to 63 letters, digits and _ . -, a letter first")
        if not isinstance(text, str):
            raise ValueError(f"label '{name}': write its value in quotes")
        if not 0 < len(text) <= 200 or not text.isprintable() or text != text.strip():
            raise ValueError(f"label '{name}': write 1 to 200 printable characters on one line")
    return dict(value)


def labels_text(labels: Mapping[str, str]) -> str | None:
    """Return labels as the JSON text that records keep, names in order; None where there are none."""
    return orjson.dumps(labels, option=orjson.OPT_SORT_KEYS).decode() if labels else None


def label_fragment(text: str) -> str:
    """Return the part of a record's labels that says ``name:value``. Raises ValueError.

    Quotes inside a value are escaped there, so the part stands nowhere else.
    """
    name, colon, value = text.partition(":")
    if not colon or not value or not _NAME.fullmatch(name):
        raise ValueError("must be a label's name, a colon and its value, such as cost_center:4711")
    return orjson.dumps({name: value}).decode()[1:-1]


Labels = Annotated[
    dict[str, str],
    BeforeValidator(check_labels),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MAX_LABELS,
            "propertyNames": {"pattern": f"^{_NAME.pattern}$"},
            "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 200},
            "examples": [{"cost_center": "4711"}],
        }
    ),
]
