"""SQLite files are opened in one place, in the mode that was asked for."""

from __future__ import annotations

import ast
import sqlite3
from pathlib import Path

import pytest

from sluicegate.database import connect, connection, uri_of
from support.sources import ADDONS, nodes


def opens_sqlite(path: Path) -> bool:
    """Whether a file calls ``sqlite3.connect``, or could under another name."""
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module == "sqlite3":
            return True
        named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if named and (node.value.id, node.attr) == ("sqlite3", "connect"):  # type: ignore[attr-defined]
            return True
    return False


def test_nothing_but_the_database_module_opens_sqlite() -> None:
    assert [str(p.relative_to(ADDONS)) for p in sorted(ADDONS.rglob("*.py")) if opens_sqlite(p)] == ["sluicegate/database.py"]


def test_sqlite_utils_is_only_given_connections_that_are_open() -> None:
    users = [p for p in sorted(ADDONS.rglob("*.py")) if "sqlite_utils.Database(" in p.read_text()]
    assert [p.name for p in users] == ["migrations.py"]
    assert users[0].read_text().count("sqlite_utils.Database(") == users[0].read_text().count("sqlite_utils.Database(conn)") == 1


def test_a_mode_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a file?mode=rwc #1%20.db"
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        connect(path, "rw")
    with connection(path, "rwc") as conn:
        conn.execute("CREATE TABLE t (x)")
        assert not conn.in_transaction
    assert list(tmp_path.glob("*")) == [path]
    with connection(path, "ro") as conn:
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (0,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            conn.execute("INSERT INTO t VALUES (1)")
        conn.execute("ATTACH ? AS other", (uri_of(path, "ro"),))
        assert conn.execute("SELECT count(*) FROM other.t").fetchone() == (0,)


def test_errors_are_raised_as_the_caller_wants_them_and_the_file_is_closed(tmp_path: Path) -> None:
    class OurError(Exception):
        pass

    with pytest.raises(OurError, match="no such table"), connection(tmp_path / "a.db", "rwc", lambda e: OurError(str(e))) as conn:
        conn.execute("SELECT * FROM missing")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        conn.execute("SELECT 1")


def test_a_lock_is_waited_for_as_long_as_was_said(tmp_path: Path) -> None:
    with connection(tmp_path / "a.db", "rwc") as first, connection(tmp_path / "a.db", "rw", busy_timeout_ms=30) as second:
        assert second.execute("PRAGMA busy_timeout").fetchone() == (30,)
        first.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            second.execute("BEGIN IMMEDIATE")
