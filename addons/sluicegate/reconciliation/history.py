"""Reconciliations that were made: kept in the table ``reconciliations``, the last of each provider in memory for metrics."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import orjson

from sluicegate.database import connection
from sluicegate.storage.errors import StoreError
from sluicegate.windows import parse_iso


class Reconciliations:
    """The reconciliations in a database file. Blocking; every method but ``latest`` raises StoreError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._latest: dict[str, dict[str, Any]] | None = None

    def add(self, made: dict[str, Any]) -> None:
        """Keep a reconciliation."""
        row = (made["at"], made["provider"], made["actor"], made["from"], made["to"], orjson.dumps(made).decode())
        with connection(self.path, "rw", self._error) as conn:
            sql = "INSERT INTO reconciliations (at, provider, actor, first_day, last_day, result) VALUES (?, ?, ?, ?, ?, ?)"
            conn.execute(sql, row)
        self._latest = (self._latest or {}) | {made["provider"]: _summary(made)}

    def newest(self, limit: int, provider: str | None = None) -> list[dict[str, Any]]:
        """Return the newest reconciliations, newest first."""
        where, values = ("WHERE provider = ?", [provider]) if provider is not None else ("", [])
        with connection(self.path, "ro", self._error) as conn:
            sql = f"SELECT result FROM reconciliations {where} ORDER BY number DESC LIMIT ?"  # noqa: S608
            return [orjson.loads(row[0]) for row in conn.execute(sql, [*values, limit])]

    def latest(self) -> dict[str, dict[str, Any]]:
        """Return by provider when the last reconciliation was made and how large its drift was; read from disk once."""
        if self._latest is None:
            try:
                with connection(self.path, "ro") as conn:
                    newest = "SELECT max(number) FROM reconciliations GROUP BY provider"
                    sql = f"SELECT result FROM reconciliations WHERE number IN ({newest})"  # noqa: S608
                    found = [orjson.loads(row[0]) for row in conn.execute(sql)]
            except sqlite3.Error:
                return {}
            self._latest = {made["provider"]: _summary(made) for made in found}
        return self._latest

    def _error(self, e: sqlite3.Error) -> StoreError:
        return StoreError(f"{self.path}: {e}")


def _summary(made: dict[str, Any]) -> dict[str, Any]:
    totals = made["totals"]
    return {
        "at": parse_iso(made["at"]),
        "drift_usd": totals["drift_usd"],
        "cost_drift_share": totals["cost_drift_share"],
        "token_drift_share": totals["token_drift_share"],
    }
