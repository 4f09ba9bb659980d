"""The policy in the fleet store: each version a row, the newest in force. One that does not follow that is refused."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import NamedTuple

import orjson

from sluicegate.fleet.store.engine import Engine, Row
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.fleet.store.tables import migrate
from sluicegate.policy.source import Written

CHANNEL = "sluicegate_policy"
"""Whoever listens to it hears of each new version, by its number."""

KEPT_VERSIONS = 200
"""Versions that stay in the store; each node's own history has more."""

_COLUMNS = "number, revision, files, put_at, who, action, summary, node"
_NEWEST = f"SELECT {_COLUMNS} FROM fleet_policy ORDER BY number DESC LIMIT 1"  # noqa: S608
_BEFORE = f"SELECT {_COLUMNS} FROM fleet_policy WHERE number < ? ORDER BY number DESC LIMIT 1"  # noqa: S608
_SINCE = f"SELECT {_COLUMNS} FROM fleet_policy WHERE number > ? ORDER BY number LIMIT ?"  # noqa: S608
_HEAD = "SELECT number, revision FROM fleet_policy ORDER BY number DESC LIMIT 1"
_PUT = """
INSERT INTO fleet_policy (number, token, revision, files, put_at, who, action, summary, node)
SELECT CAST(? AS bigint), CAST(? AS text), CAST(? AS text), CAST(? AS text), {now}, CAST(? AS text), CAST(? AS text),
  CAST(? AS text), CAST(? AS text)
WHERE (SELECT coalesce(max(number), 0) FROM fleet_policy) = ? ON CONFLICT (number) DO NOTHING RETURNING number
"""
_PRUNE = "DELETE FROM fleet_policy WHERE number <= ?"
_HAS = "SELECT 1 FROM fleet_policy WHERE number = ? AND token = ?"


class Version(NamedTuple):
    """A version of the policy."""

    number: int
    """Counts up from 1."""
    revision: str
    files: Mapping[str, str]
    """The texts of its files by name; none where sluicegate has not written them."""
    put_at: int
    """Epoch milliseconds by the store's clock."""
    who: str
    action: str
    summary: str
    node: str
    """The name of the node by which it was changed."""


class UnknownOutcome(FleetError):
    """The store was lost while it was told of a version, and nobody can say whether it has it."""


class PolicyTable:
    """The table, on a connection of its own; for one thread at a time. Every method blocks, and raises FleetError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_migrated = False

    def head(self) -> tuple[int, str]:
        """Return the number and the revision of the version in force, 0 and nothing where there is none."""
        rows = self._ask(_HEAD)
        return (int(rows[0][0]), str(rows[0][1])) if rows else (0, "")

    def newest(self) -> Version | None:
        """Return the version in force."""
        rows = self._ask(_NEWEST)
        return _version(rows[0]) if rows else None

    def before(self, number: int) -> Version | None:
        """Return the version before one; None where the store has none."""
        rows = self._ask(_BEFORE, number)
        return _version(rows[0]) if rows else None

    def since(self, number: int, limit: int) -> list[Version]:
        """Return the versions after one, in their order."""
        return [_version(row) for row in self._ask(_SINCE, number, limit)]

    def put(self, expected: int, files: Mapping[str, str], written: Written, node: str) -> int | None:
        """Put a version in force that was made from number ``expected``; return its number, None where that is not the newest.

        Raises UnknownOutcome.
        """
        token, number = secrets.token_hex(16), expected + 1
        text = orjson.dumps(dict(files)).decode()
        row = (number, token, written.revision, text, written.who, written.action, written.summary, node, expected)
        self._prepare()
        try:
            with self._engine.transaction() as run:
                (found,) = run((_PUT, row))
                if not found:
                    return None
                run((_PRUNE, (number - KEPT_VERSIONS,)), ("{notify}", (CHANNEL, str(number))), commit=True)
        except FleetError as e:
            return self._is_put(number, token, e)
        return number

    def _is_put(self, number: int, token: str, error: FleetError) -> int:
        """Return the number of a version if the store has it though its answer was lost. Raises UnknownOutcome or FleetError."""
        try:
            rows = self._ask(_HAS, number, token)
        except FleetError as e:
            raise UnknownOutcome(str(e)) from e
        if not rows:
            raise error
        return number

    def _ask(self, sql: str, *values: object) -> list[Row]:
        self._prepare()
        with self._engine.transaction() as run:
            (rows,) = run((sql, values), commit=True)
        return rows

    def _prepare(self) -> None:
        if not self._is_migrated:
            migrate(self._engine)
            self._is_migrated = True

    def close(self) -> None:
        """Close the connection."""
        self._engine.close()


def _version(row: Row) -> Version:
    number, revision, files, *about = row
    return Version(int(number), revision, _files(files), *about)


def is_file_name(name: str) -> bool:
    """Return whether a file of a policy may be called so: as one that is read in a folder, and lies in no other folder."""
    return name.endswith((".yaml", ".yml")) and not name.startswith((".", "#", "~")) and not set(name) & set("/\\\0")


def _files(text: str) -> Mapping[str, str]:
    """Return the files in a row; none where it is not one of ours: whoever can write to the store is not to break what reads it."""
    try:
        files = orjson.loads(text)
    except ValueError:
        return {}
    if not isinstance(files, dict) or not all(is_file_name(name) and isinstance(data, str) for name, data in files.items()):
        return {}
    return files
