"""Reports on prompt caching: what was lost, by cause, by user and week, and the findings of a session. Read beside a gateway."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluicegate.database import connection
from sluicegate.prompt_caching.store import COUNTS, rows_of, week_of
from sluicegate.values import usd
from sluicegate.windows import iso

_SUMS = ", ".join(f"coalesce(sum({name}), 0)" for name in COUNTS)


@dataclass(frozen=True, slots=True)
class ReportFilter:
    """What a report is about; None for everything. ``since`` is epoch milliseconds."""

    since: int = 0
    session_id: str | None = None
    user_id: str | None = None
    virtual_key_id: str | None = None
    limit: int = 100

    def where(self, since: str) -> tuple[str, list[object]]:
        """Return the conditions in SQL and their values; ``since`` is that of the time."""
        given = {"session_id": self.session_id, "user_id": self.user_id, "virtual_key_id": self.virtual_key_id}
        named = {name: value for name, value in given.items() if value is not None}
        return " AND ".join([since, *(f"{name} = ?" for name in named)]), list(named.values())


def report(path: Path, wanted: ReportFilter) -> dict[str, Any]:
    """Return totals, causes, weeks by user and the newest findings. Raises sqlite3.Error."""
    if not path.exists():
        return _shaped(wanted, (0,) * len(COUNTS), [], [], [])
    with connection(path, "ro") as conn:
        conn.execute("BEGIN")
        return _report(conn, wanted)


def _report(conn: sqlite3.Connection, wanted: ReportFilter) -> dict[str, Any]:
    where, values = wanted.where("at >= ?")
    values = [wanted.since, *values]
    causes = conn.execute(
        f"SELECT cause, count(*), sum(lost_tokens), sum(lost_nano) FROM findings WHERE {where} GROUP BY cause "
        "ORDER BY sum(lost_nano) DESC, sum(lost_tokens) DESC, cause",
        values,
    ).fetchall()
    found = conn.execute(
        f"SELECT finding FROM findings WHERE {where} ORDER BY at DESC, rowid DESC LIMIT ?", [*values, wanted.limit]
    )
    findings = rows_of(found)
    # Sums are kept by week, so all of the first week counts.
    weeks_where, more = wanted.where("week >= ?")
    first = week_of(wanted.since) if wanted.since else 0
    totals = conn.execute(f"SELECT {_SUMS} FROM sums WHERE {weeks_where}", [first, *more]).fetchone()
    weeks = conn.execute(
        f"SELECT week, user_id, {_SUMS} FROM sums WHERE {weeks_where} GROUP BY week, user_id "
        "ORDER BY week DESC, sum(lost_nano) DESC, user_id",
        [first, *more],
    ).fetchall()
    return _shaped(wanted, totals, causes, weeks, findings)


def _shaped(wanted: ReportFilter, totals: Any, causes: Any, weeks: Any, findings: Any) -> dict[str, Any]:
    return {
        "since": iso(wanted.since) if wanted.since else None,
        "session_id": wanted.session_id,
        "totals": _counts(totals),
        "causes": [{"cause": cause, "breaks": n, "lost_tokens": t, "lost_usd": usd(nano)} for cause, n, t, nano in causes],
        "weeks": [{"week": iso(week)[:10], "user_id": user or None, **_counts(counts)} for week, user, *counts in weeks],
        "findings": findings,
    }


def _counts(values: Any) -> dict[str, Any]:
    named = dict(zip(COUNTS, values, strict=True))
    prompt = named["input_tokens"] + named["read_tokens"] + named["written_tokens"]
    lost = named.pop("lost_nano")
    share = round(named["read_tokens"] / prompt, 4) if prompt else None
    return named | {"read_share": share, "lost_usd": usd(lost)}
