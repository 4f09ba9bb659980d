"""What our records say about a provider's bill: calls by day and model, with what is estimated, cut short or adjusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sluicegate.database import connection
from sluicegate.model_names import undated
from sluicegate.storage.errors import StoreError
from sluicegate.values import TOKEN_COLUMNS, TOOL_COLUMNS
from sluicegate.windows import DAY_MS, iso

CUT_OUTCOMES = ("cancelled", "failed", "interrupted")


@dataclass(slots=True)
class Booked:
    """Calls of one model on one day. Money is nano-dollars; ``cost_nano`` includes adjustments."""

    calls: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKEN_COLUMNS, 0))
    cost_nano: int = 0
    estimated: int = 0
    estimated_nano: int = 0
    cut_short: int = 0
    cut_short_nano: int = 0
    adjusted: int = 0
    adjusted_nano: int = 0
    tools: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOOL_COLUMNS, 0))
    """Calls of tools that have a fee, by the column that counts them."""


def read_booked(path: Path, provider: str, start: int, end: int) -> dict[tuple[str, str], Booked]:
    """Return calls by day and model for ``[start, end)``, read a day at a time. Blocking. Raises StoreError."""
    found: dict[tuple[str, str], Booked] = {}
    for at in range(start, end, DAY_MS):
        span = (provider, iso(at), iso(at + DAY_MS))
        for model, *numbers in _rows(path, _CALLS, span):
            _add_calls(found.setdefault((span[1][:10], undated(model)), Booked()), numbers)
        for model, count, nano in _rows(path, _ADJUSTMENTS, span):
            booked = found.setdefault((span[1][:10], undated(model)), Booked())
            booked.adjusted += count
            booked.adjusted_nano += nano
            booked.cost_nano += nano
    return found


def _add_calls(booked: Booked, numbers: Sequence[int]) -> None:
    calls, cost, estimated, estimated_nano, cut_short, cut_short_nano, *counts = numbers
    booked.calls += calls
    booked.cost_nano += cost
    booked.estimated += estimated
    booked.estimated_nano += estimated_nano
    booked.cut_short += cut_short
    booked.cut_short_nano += cut_short_nano
    for name, count in zip((*TOKEN_COLUMNS, *TOOL_COLUMNS), counts, strict=True):
        if name in booked.tokens:
            booked.tokens[name] += count
        else:
            booked.tools[name] += count


_MODEL = "coalesce(model_served, model_requested)"
_CUT = f"(outcome IN ({', '.join(repr(o) for o in CUT_OUTCOMES)}))"
# What a client's own subscription has paid for is on no bill of ours.
_OURS = "shadow_nano IS NULL AND model_requested IS NOT NULL AND outcome <> 'denied'"
_WHERE = f"provider = ? AND started_at >= ? AND started_at < ? AND {_OURS}"
_COST = "coalesce(cost_nano, 0)"
_GUESSED = f"(estimated = 1 AND NOT {_CUT})"
_CALLS = (
    f"SELECT {_MODEL}, count(*), sum({_COST}), sum({_GUESSED}), sum({_GUESSED} * {_COST}), "  # noqa: S608
    f"sum({_CUT} AND {_COST} > 0), sum({_CUT} * {_COST}), "
    + ", ".join(f"sum(coalesce({name}, 0))" for name in (*TOKEN_COLUMNS, *TOOL_COLUMNS))
    + f" FROM calls WHERE {_WHERE} GROUP BY 1"
)
_ADJUSTMENTS = (
    f"SELECT {_MODEL}, count(*), sum(a.amount_nano) FROM calls JOIN adjustments AS a ON a.call_id = calls.id "  # noqa: S608
    f"WHERE {_WHERE.replace('provider =', 'calls.provider =')} GROUP BY 1"
)


def _rows(path: Path, sql: str, values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    with connection(path, "ro", lambda e: StoreError(f"{path}: {e}"), busy_timeout_ms=2_000) as conn:
        yield from conn.execute(sql, values).fetchall()
