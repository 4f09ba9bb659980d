"""Verdicts: what each limit said of a call, with its numbers of that moment, as files keep them and as people are shown them.

Whoever judges notes bare tuples, which cost a call next to nothing; only who looks at a record gets words and units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from sluicegate.calls.record import COLUMNS, Record
from sluicegate.values import Verdict, usd
from sluicegate.windows import iso

SHARED = ("provider", "model")
"""Scopes whose numbers are of everybody's calls."""

LISTED = tuple(name for name in COLUMNS if name != "limits")
"""What a page shows of a call: verdicts are half of a record, and nobody reads those of fifty calls at once."""


def to_row(record: Record) -> list[Any]:
    """A record as a row of the table ``calls``: its verdicts as JSON text."""
    return [*map(record.get, LISTED), to_text(record.get("limits"))]


def from_row(values: Iterable[Any]) -> Record:
    """The record that a row holds."""
    record = dict(zip(COLUMNS, values, strict=True))
    record["limits"] = from_text(record["limits"])
    return record


def to_text(verdicts: list[Verdict] | None) -> str | None:
    """Verdicts as JSON text; None where a record is from before they were kept."""
    return None if verdicts is None else orjson.dumps(verdicts).decode()


def from_text(text: str | None) -> list[Verdict] | None:
    """The verdicts in a column."""
    return None if text is None else orjson.loads(text)


def visible(verdicts: list[Verdict] | None, own: str | None) -> list[Verdict] | None:
    """What of a call's verdicts its reader may see; ``own`` is the key of one who may see one key's calls alone.

    How much all others use of a provider or model is not theirs to know, unless a refusal has told them.
    """
    if own is None or verdicts is None:
        return verdicts
    return [v for v in verdicts if v[0] not in SHARED or not v[-1]]


def told(verdicts: list[Verdict] | None) -> list[dict[str, Any]] | None:
    """Verdicts in the words of the usage table: money as exact decimal text, counts as integers, the others null."""
    return None if verdicts is None else [_told(*v) for v in verdicts]


def _told(
    kind: str,
    scope_id: str,
    unit: str,
    window: str | None,
    enforcement: str,
    limit: int,
    used: int,
    reserved: int,
    asked: int,
    resets_at: int | None,
    admitted: bool,
) -> dict[str, Any]:
    numbers = {"limit": limit, "used": used, "reserved": reserved, "asked": asked}
    money: Callable[[int], str | None] = usd if unit == "usd" else lambda _: None
    return {
        "kind": kind,
        "id": scope_id,
        "unit": unit,
        "window": window,
        "enforcement": enforcement,
        **{f"{name}_usd": money(number) for name, number in numbers.items()},
        **{name: None if unit == "usd" else number for name, number in numbers.items()},
        "resets_at": iso(resets_at) if resets_at is not None else None,
        "admitted": admitted,
    }
