"""Limit checks: what each limit decided about a call and the numbers it decided on, as stored and as shown.

Checks are bare tuples while a call is judged, which costs the call next to nothing; names and units are added for readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from sluicegate.calls.record import COLUMNS, DETAIL_COLUMNS, Record
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import ALIGNED, counter_name
from sluicegate.values import LimitCheck, Unit, usd
from sluicegate.windows import iso

SHARED_SCOPES = ("provider", "model")
"""Scopes whose counters add up the calls of all callers."""

LISTED_COLUMNS = tuple(name for name in COLUMNS if name not in DETAIL_COLUMNS)
"""Columns shown in a list of calls: limit checks make up half a record, and a list of fifty calls does not show them."""

_DETAILS = [(name, list(COLUMNS).index(name)) for name in DETAIL_COLUMNS]


def to_row(record: Record) -> list[Any]:
    """Return a record as a row of the table ``calls``, its lists as JSON text."""
    row = list(map(record.get, COLUMNS))
    for _, at in _DETAILS:
        row[at] = to_text(row[at])
    return row


def from_row(values: Iterable[Any]) -> Record:
    """Return the record stored in a row of the table ``calls``."""
    record = dict(zip(COLUMNS, values, strict=True))
    for name, _ in _DETAILS:
        record[name] = from_text(record[name])
    return record


def to_text(details: list[Any] | None) -> str | None:
    """Return limit checks or attempts as JSON text; None where there are none on record."""
    return None if details is None else orjson.dumps(details).decode()


def from_text(text: str | None) -> list[Any] | None:
    """Return the list in a column."""
    return None if text is None else orjson.loads(text)


def visible_checks(checks: list[LimitCheck] | None, own_key: str | None) -> list[LimitCheck] | None:
    """Return the checks a reader may see; ``own_key`` is the virtual key of a reader restricted to its own calls.

    Such a reader must not learn how much everyone else uses of a provider or model, unless it was refused for it.
    """
    if own_key is None or checks is None:
        return checks
    return [c for c in checks if c[0] not in SHARED_SCOPES or not c[-1]]


def charged_windows(checks: Iterable[LimitCheck], ledger: Ledger) -> list[tuple[Unit, str, int | None]]:
    """Return what a call with these checks is charged to: the unit, the counter's name, and the end of the window.

    A window that is long over is left out: then only the records have the charge.
    """
    found: list[tuple[Unit, str, int | None]] = []
    for kind, scope_id, unit, window, _, _, _, _, _, resets_at, admitted in checks:
        if not admitted:
            continue
        name = counter_name(kind, scope_id, unit, window)
        # A limit that follows the calendar has the zone in its counter's name, which a check does not.
        names = [name, *(n for n in ledger.counters if n.startswith(f"{name}{ALIGNED}"))]
        counters = (ledger.counters[n] for n in names if n in ledger.counters)
        found += [(unit, c.name, resets_at) for c in counters if c.has_window(resets_at)][:1]
    return found


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
