"""Erasing a person from the database: their ids become a pseudonym, what tells of them is emptied, and every sum stays.

In small transactions on a connection of its own, so that calls go on. Each step can be repeated: one that was cut off is done
again from its beginning.
"""

from __future__ import annotations

import itertools
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from sluicegate.calls.adjustment import COLUMNS as ADJUSTMENT_COLUMNS
from sluicegate.calls.limit_checks import from_row, to_row
from sluicegate.calls.personal_data import Person
from sluicegate.calls.record import COLUMNS
from sluicegate.database import connection, transaction
from sluicegate.logs.index import FACET, MEASURES
from sluicegate.policy.editing import people
from sluicegate.policy.editing.draft import Draft, EditError
from sluicegate.policy.editing.yaml_patch import Change, NotPatchableError, rewrite
from sluicegate.storage.adjustment_rows import read_adjustments, row_of_adjustment
from sluicegate.storage.migrations import CONNECTION_COLUMNS
from sluicegate.yaml_document import parse

ROWS_PER_READ, ROWS_PER_STEP = 2_000, 40
"""Rows looked at in one read, and changed in one transaction."""

CHECKPOINT_ROUNDS = 50

_TRIGGERS = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'admin_audit'"

ERASED_TEXT = "# This file is not shown: it named a person who has been erased.\n"
"""Replaces an old policy's text from which the person cannot be taken. It is not a valid policy, so it cannot be activated."""


class Erasure:
    """One person's erasure from one database. Blocking; every method may raise sqlite3.Error."""

    def __init__(self, path: Path, person: Person, pause: Callable[[], None]) -> None:
        """Call ``pause`` between two transactions."""
        self.path, self.person, self._pause = path, person, pause
        # A team may be spelled alike: then what a word is of decides.
        self._may_be_in = replace(person, shared=frozenset()).is_in

    def call_ids(self) -> list[str]:
        """Return the ids of the person's calls."""
        with connection(self.path, "ro") as conn:
            return [row["id"] for _, row in self._calls(conn)]

    def run(self) -> int:
        """Erase the person; return how many calls that was about."""
        with connection(self.path, "rw") as conn:
            conn.execute("PRAGMA secure_delete=ON")
            self._rewrite(conn, "connections", tuple(CONNECTION_COLUMNS))
            self._adjustments(conn)
            self._delete(conn)
            self._past_calls(conn)
            self._trail(conn)
            self._revisions(conn)
            count = self._rewrite(conn, "calls", tuple(COLUMNS))
            for _ in range(CHECKPOINT_ROUNDS):
                # What was overwritten is still in the write-ahead log until it starts over, for which readers must have ended.
                if not conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    break
                self._pause()
        return count

    def _calls(self, conn: sqlite3.Connection) -> Iterator[tuple[int, dict[str, Any]]]:
        return self._rows(conn, "calls", tuple(COLUMNS))

    def _rows(self, conn: sqlite3.Connection, table: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the person's rows of a table with their numbers, read some at a time."""
        after = 0
        while True:
            sql = f"SELECT rowid, user_id, virtual_key_id FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT ?"
            found = conn.execute(sql, (after, ROWS_PER_READ)).fetchall()
            for number, user, key in found:
                if self.person.made({"user_id": user, "virtual_key_id": key}):
                    row = conn.execute(f"SELECT {','.join(columns)} FROM {table} WHERE rowid = ?", (number,)).fetchone()
                    if row is not None:
                        yield number, dict(zip(columns, row, strict=True))
            if len(found) < ROWS_PER_READ:
                return
            after = found[-1][0]

    def _rewrite(self, conn: sqlite3.Connection, table: str, columns: Sequence[str]) -> int:
        sets = ", ".join(f"{name} = ?" for name in columns)
        count = 0
        for part in itertools.batched(self._rows(conn, table, columns), ROWS_PER_STEP):
            changed = []
            for number, row in part:
                erased = to_row(self.person.erase(from_row(row.values()))) if table == "calls" else self.person.erase(row).values()
                changed.append([*erased, number])
            with transaction(conn):
                conn.executemany(f"UPDATE {table} SET {sets} WHERE rowid = ?", changed)
            count += len(changed)
            self._pause()
        return count

    def _adjustments(self, conn: sqlite3.Connection) -> None:
        sets = ", ".join(f"{name} = ?" for name in ADJUSTMENT_COLUMNS)
        for made in read_adjustments(conn, "true", ()):
            erased = self.person.erase(made)
            if erased != made:
                conn.execute(f"UPDATE adjustments SET {sets} WHERE id = ?", [*row_of_adjustment(erased), made["id"]])

    def _delete(self, conn: sqlite3.Connection) -> None:
        """Delete what only said something about the person: counters, thresholds and alerts of theirs, and what was learned."""
        for table, column in (("counters", "name"), ("alerts_passed", "counter")):
            names = [n for (n,) in conn.execute(f"SELECT DISTINCT {column} FROM {table}") if self.person.owns_counter(n)]
            conn.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(n,) for n in names])
        conn.executemany("DELETE FROM learned WHERE virtual_key_id = ?", [(k,) for k in self.person.keys])
        alerts = [(i,) for i, body in conn.execute("SELECT rowid, body FROM alerts") if self._is_alerted(orjson.loads(body))]
        conn.executemany("DELETE FROM alerts WHERE rowid = ?", alerts)
        for number, actor, text in conn.execute("SELECT number, actor, result FROM reconciliations").fetchall():
            if actor and self.person.is_in(actor):
                result = orjson.dumps(orjson.loads(text) | {"actor": self.person.without(actor)}).decode()
                sql = "UPDATE reconciliations SET actor = ?, result = ? WHERE number = ?"
                conn.execute(sql, (self.person.without(actor), result, number))

    def _is_alerted(self, alert: dict[str, Any]) -> bool:
        return bool(self.person.scope(str(alert.get("kind")), str(alert.get("id"))) != alert.get("id"))

    def _past_calls(self, conn: sqlite3.Connection) -> None:
        columns = ("day", *FACET, "latency_bin", *MEASURES)
        rows = conn.execute(f"SELECT rowid, {', '.join(columns)} FROM past_calls").fetchall()
        sums = ", ".join(f"{m} = {m} + excluded.{m}" for m in MEASURES)
        marks = ", ".join("?" * len(columns))
        add = f"INSERT INTO past_calls ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT DO UPDATE SET {sums}"
        for number, *values in rows:
            row = dict(zip(columns, values, strict=True))
            if self.person.made(row):
                erased = {name: "" if value is None else value for name, value in self.person.erase(row).items()}
                with transaction(conn):
                    conn.execute("DELETE FROM past_calls WHERE rowid = ?", (number,))
                    conn.execute(add, tuple(erased.values()))

    def _trail(self, conn: sqlite3.Connection) -> None:
        """Take the person out of the audit trail; that somebody was created, changed and deleted then stays on it."""
        person = self.person
        changed = []
        for number, who, kind, entity, before, after in conn.execute(
            "SELECT id, who, entity_kind, entity_id, before, after FROM admin_audit"
        ):
            erased = person.scope(kind, entity)
            texts = [self._text_without(text) for text in (before, after)] if erased == entity else [None, None]
            row = (who and person.without(who), erased, *texts)
            if row != (who, entity, before, after):
                changed.append((*row, number))
        if not changed:
            return
        with transaction(conn):
            triggers = conn.execute(_TRIGGERS).fetchall()
            for name, _ in triggers:
                conn.execute(f"DROP TRIGGER {name}")
            conn.executemany("UPDATE admin_audit SET who = ?, entity_id = ?, before = ?, after = ? WHERE id = ?", changed)
            for _, sql in triggers:
                conn.execute(sql)

    def _text_without(self, text: str | None) -> str | None:
        """Return an entity's values without the person."""
        if not text or not self._may_be_in(text):
            return text
        value = orjson.loads(text)
        erased = self.person.without_in(value)
        return text if erased == value else orjson.dumps(erased).decode()

    def _revisions(self, conn: sqlite3.Connection) -> None:
        for (number,) in conn.execute("SELECT id FROM policy_revisions").fetchall():
            found = conn.execute("SELECT who, summary, files FROM policy_revisions WHERE id = ?", (number,)).fetchone()
            if found is None:
                continue
            who, summary, files = found[0] and self.person.without(found[0]), found[1], orjson.loads(zlib.decompress(found[2]))
            if (who, self._may_be_in(summary)) == (found[0], False) and not any(map(self._may_be_in, files.values())):
                continue
            packed = zlib.compress(orjson.dumps(policy_without(files, self.person)), 6)
            values = (who, self.person.without(summary), packed, number)
            conn.execute("UPDATE policy_revisions SET who = ?, summary = ?, files = ? WHERE id = ?", values)
            self._pause()


def policy_without(files: dict[str, str], person: Person) -> dict[str, str]:
    """Return a policy's texts without the user and their keys; ``ERASED_TEXT`` for one that names them even so."""
    texts = dict(files)
    docs = [parse(text.encode(), name) for name, text in files.items()]
    draft = Draft([doc for doc in docs if not doc.problems and isinstance(doc.value, dict)])
    is_left_out = len(draft.docs) == len(docs)
    try:
        if person.user_id in draft.entries(people.USERS):
            people.delete_user(draft, person.user_id, with_keys=True, detach=True, now=0)
        for number, doc in enumerate(draft.docs):
            changes = [Change(c.kind.name, c.position, c.after, "") for c in draft.changes() if c.doc == number]
            if changes:
                texts[doc.file] = rewrite(doc, texts[doc.file], changes)[0]
    except (EditError, NotPatchableError):
        is_left_out = False
    if not is_left_out:
        # Which of those that are spelled alike is meant cannot be told.
        person = replace(person, shared=frozenset())
    return {name: ERASED_TEXT if person.is_in(text) else text for name, text in texts.items()}
