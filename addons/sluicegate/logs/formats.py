"""Records as CSV and as JSON lines, some rows at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

import orjson

from sluicegate.calls.adjustment import COLUMNS as ADJUSTMENT_COLUMNS
from sluicegate.calls.adjustment import Adjustment
from sluicegate.calls.limit_checks import to_row
from sluicegate.calls.record import COLUMNS, Record
from sluicegate.logs.listing import ADJUSTED

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the start of a formula: a client may put one into its model, session or user agent."""


def csv_header() -> bytes:
    """Return the header line."""
    return _csv([[*COLUMNS, *ADJUSTED]])


def csv_rows(rows: Iterable[Record]) -> bytes:
    """Return one line per record. A value that would be a formula gets an apostrophe before it, so that it stays text."""
    # What was adjusted is a number of ours, which may begin with a minus.
    return _csv([[*map(_harmless, to_row(row)), *_adjusted(row)] for row in rows])


def _adjusted(row: Record) -> tuple[object, object]:
    adjustment, effective = ADJUSTED
    return row.get(adjustment), row.get(effective, row.get("cost_usd"))


def adjustment_rows(adjustments: Iterable[Adjustment]) -> bytes:
    """Return adjustments as CSV, a header line first, without what each changed on the counters."""
    columns = [name for name in ADJUSTMENT_COLUMNS if name not in ("charges", "idempotency_key")]
    numbers = ("amount_usd", "amount_nano")
    return _csv([columns, *([a[n] if n in numbers else _harmless(a[n]) for n in columns] for a in adjustments)])


def jsonl_rows(rows: Iterable[Record]) -> bytes:
    """Return one line per record, as in ``audit.jsonl``, with what was adjusted since."""
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def _harmless(value: object) -> object:
    return "'" + value if isinstance(value, str) and value.startswith(FORMULA) else value


def _csv(lines: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(lines)
    return text.getvalue().encode()
