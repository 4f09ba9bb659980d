"""Taking a person out of the store itself: records, entries, calls in flight, old policies and counters of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from sluicegate.calls.personal_data import Person
from sluicegate.fleet.store.session import Session

if TYPE_CHECKING:
    import psycopg

ROWS_PER_STEP = 500

EraseEntry = Callable[[Person, str, Mapping[str, Any]], Mapping[str, Any]]
"""Takes a person, the kind of an entry and its values; returns these without the person."""

_RECORDS = """
SELECT position, id, record::text FROM records
WHERE position > %s AND (record->>'user_id' = %s OR record->>'virtual_key_id' = ANY(%s)) ORDER BY position LIMIT %s
"""
_ENTRIES = "SELECT position, id, kind, entry::text FROM entries WHERE position > %s ORDER BY position LIMIT %s"
_COUNTERS = "SELECT counter FROM fleet_anchors UNION SELECT counter FROM fleet_windows UNION SELECT counter FROM fleet_corrections"
_OF_COUNTERS = ("fleet_positions", "fleet_windows", "fleet_anchors", "fleet_corrections", "fleet_alerts")


def rewrite_store(session: Session, person: Person, erase_entry: EraseEntry) -> None:
    """Take a person out of all tables, in small transactions; can be repeated. Raises FleetError."""
    after = 0
    while last := session.run(lambda conn, after=after: _records(conn, person, after)):  # type: ignore[misc]
        after = last
    after = 0
    while last := session.run(lambda conn, after=after: _entries(conn, person, after, erase_entry)):  # type: ignore[misc]
        after = last
    session.run(lambda conn: _rest(conn, person))


def _records(conn: psycopg.Connection, person: Person, after: int) -> int:
    """Rewrite some records; return the last one's position, 0 where there was none."""
    rows = conn.execute(_RECORDS, (after, person.user_id, list(person.keys), ROWS_PER_STEP)).fetchall()
    changed = [(orjson.dumps(person.erase(orjson.loads(text))).decode(), i) for _, i, text in rows]
    _update(conn, "UPDATE records SET record = %s WHERE id = %s", changed)
    return rows[-1][0] if rows else 0


def _entries(conn: psycopg.Connection, person: Person, after: int, erase_entry: EraseEntry) -> int:
    rows = conn.execute(_ENTRIES, (after, ROWS_PER_STEP)).fetchall()
    changed = []
    for _, i, kind, text in rows:
        values = orjson.loads(text)
        erased = dict(erase_entry(person, kind, values))
        if erased != values:
            changed.append((orjson.dumps(erased).decode(), i))
    _update(conn, "UPDATE entries SET entry = %s WHERE id = %s", changed)
    return rows[-1][0] if rows else 0


def _rest(conn: psycopg.Connection, person: Person) -> None:
    for node, call_id, charges, draft in conn.execute("SELECT node, call_id, charges, draft FROM fleet_holds").fetchall():
        record = orjson.loads(draft)
        if person.made(record):
            # What it would charge the person's own counters is of no use any more.
            others = [charge for charge in orjson.loads(charges) if not person.owns_counter(charge[0])]
            values = (orjson.dumps(others).decode(), orjson.dumps(person.erase(record)).decode(), node, call_id)
            conn.execute("UPDATE fleet_holds SET charges = %s, draft = %s WHERE node = %s AND call_id = %s", values)
    # A team may be spelled alike: then what a word is of cannot be told from a text.
    may_be_in = replace(person, shared=frozenset()).is_in
    versions = conn.execute("SELECT number, files, who, summary FROM fleet_policy ORDER BY number DESC").fetchall()
    for i, (number, files, *texts) in enumerate(versions):
        if i and may_be_in(files):
            conn.execute("DELETE FROM fleet_policy WHERE number = %s", (number,))
        elif any(map(may_be_in, texts)):
            values = (*map(person.without, texts), number)
            conn.execute("UPDATE fleet_policy SET who = %s, summary = %s WHERE number = %s", values)
    names = [name for (name,) in conn.execute(_COUNTERS).fetchall() if person.owns_counter(name)]
    for table in _OF_COUNTERS if names else ():
        conn.execute(f"DELETE FROM {table} WHERE counter = ANY(%s)".encode(), (names,))  # noqa: S608


def _update(conn: psycopg.Connection, sql: str, rows: Iterable[tuple[str, str]]) -> None:
    conn.cursor().executemany(sql.encode(), list(rows))
