"""Limit checks: what each limit decided about a call and the numbers it decided on, as stored and as shown.

Checks are bare tuples while a call is judged, which costs the call next to nothing; names and units are added for readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from sluicegate.calls.record import COLUMNS, Record
from sluicegate.values import LimitCheck, usd
from sluicegate.windows import iso

SHARED_SCOPES = ("provider", "model")
"""Scopes whose counters add up the calls of all callers."""

LISTED_COLUMNS = tuple(name for name in COLUMNS if name != "limits")
"""Columns shown in a list of calls: limit checks make up half a record, and a list of fifty calls does not show them."""

_LIMITS = list(COLUMNS).index("limits")


def to_row(record: Record) -> list[Any]:
    """Return a record as a row of the table ``calls``, its limit checks as JSON text."""
    row = [record.get(name) for name in COLUMNS]
    row[_LIMITS] = to_text(row[_LIMITS])
    return row


def from_row(values: Iterable[Any]) -> Record:
    """Return the record stored in a row of the table ``calls``."""
    record = dict(zip(COLUMNS, values, strict=True))
    record["limits"] = from_text(record["limits"])
    return record


def to_text(checks: list[LimitCheck] | None) -> str | None:
    """Return limit checks as JSON text; None for a record written before checks were kept."""
    return None if checks is None else orjson.dumps(checks).decode()


def from_text(text: str | None) -> list[LimitCheck] | None:
    """Return the limit checks in a column."""
    return None if text is None else orjson.loads(text)


def visible_checks(checks: list[LimitCheck] | None, own_key: str | None) -> list[LimitCheck] | None:
    """Return the checks a reader may see; ``own_key`` is the virtual key of a reader restricted to its own calls.

    Such a reader must not learn how much everyone else uses of a provider or model, unless it was refused for it.
    """
    if own_key is None or checks is None:
        return checks
    return [c for c in checks if c[0] not in SHARED_SCOPES or not c[-1]]


def describe(checks: list[LimitCheck] | None) -> list[dict[str, Any]] | None:
    """Return checks with the usage table's field names: money as exact decimal text, counts as integers, the rest null."""
    return None if checks is None else [_describe(*c) for c in checks]


def _describe(
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
